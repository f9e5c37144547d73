"""Candidates lost to a crash, want of memory, time or an error: what is said of one, and when there are too many.

A candidate is lost where its failure is not known to be its own. That its loss is not finite, that it does not fit the
images, stays above a ceiling or below `search.minimum_clean_accuracy`, or fails its audit or its export, is a result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from parapet.errors import WorkError
from parapet.genome import Genome
from parapet.processes import deaths
from parapet.search.network_space import SearchSpace

# Of a round, lost to one reason, above which what is left is no sample of the space any more; and a single one, be the
# round ever so small, is chance.
_SHARE, _LEAST = 1 / 3, 2
_NAMED = 3


def about(candidate: str, genome: Genome) -> str:
    """For example "candidate 0123456789ab (residual 4x2 silu, trades beta 4)"."""
    return f"candidate {candidate} ({genome})"


def how_to_leave_out(genome: Genome, space: SearchSpace) -> str:
    """What to take out of search.space to have no such genome; empty where the space would be left with nothing."""
    values = [f"{gene.name} {genome[gene.name]}" for gene in space.genes
              if len(gene.choices) > 1 and genome[gene.name] in gene.choices][:_NAMED]
    return f"to leave it out, take one of its values out of search.space: {' or '.join(values)}" if values else ""


def refuse_too_many(lost: Sequence[tuple[str, str]], total: int) -> None:
    """Raise WorkError where one reason has cost more than a third of a round of `total` candidates, and at least two.

    `lost` holds (`TaskResult.lost`, the whole reason) of each. The round of a search that stops so is not told to
    NSGA-II: whoever goes on tries the lost ones again.
    """
    if not lost:
        return
    [(kind, count)] = Counter(kind for kind, _ in lost).most_common(1)
    if count < _LEAST or count <= _SHARE * total:
        return
    first = next(reason for of, reason in lost if of == kind).rstrip(".")
    raise WorkError(f"{count} of the {total} candidates of this round were lost to one reason ({kind}), more than a "
                    f"third, so the search stops; of the first: {first}; what is done is kept: {_cure(kind)}, and run "
                    "the same command again, which tries the lost ones anew.")


def _cure(kind: str) -> str:
    if kind == deaths.MEMORY:
        return "give it more memory, or lower search.workers or training.batch_size"
    if kind == "time":
        return "raise search.timeout_seconds"
    return "mend what is wrong, or take what fails out of search.space"
