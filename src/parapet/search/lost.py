"""Candidates lost to a crash, out of memory, a timeout or an error: their description, and the limit on their number.

A candidate is lost where the failure may not be caused by the candidate. The following are results, not losses: a loss
that is not finite, a network that does not fit the images, exceeds a ceiling or stays below
`search.minimum_clean_accuracy`, and a failed audit or export.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from parapet.errors import WorkError
from parapet.genome import Genome
from parapet.processes import deaths
from parapet.search.network_space import SearchSpace

# Above this share lost to one reason, the rest of a round no longer represents the space. A single loss may be chance,
# even in a very small round.
_SHARE, _LEAST = 1 / 3, 2
_NAMED = 3


def about(candidate: str, genome: Genome) -> str:
    """A description such as "candidate 0123456789ab (residual 4x2 silu, trades beta 4)"."""
    return f"candidate {candidate} ({genome})"


def how_to_leave_out(genome: Genome, space: SearchSpace) -> str:
    """Advice on which values to remove from search.space to exclude `genome`; empty where no gene has another choice.
    """
    values = [f"{gene.name} {genome[gene.name]}" for gene in space.genes
              if len(gene.choices) > 1 and genome[gene.name] in gene.choices][:_NAMED]
    return f"to leave it out, take one of its values out of search.space: {' or '.join(values)}" if values else ""


def refuse_too_many(lost: Sequence[tuple[str, str]], total: int) -> None:
    """Raise WorkError where more than a third of a round of `total` candidates, and at least two, have one reason.

    `lost` holds (`TaskResult.lost`, the whole reason) of each lost candidate. NSGA-II does not receive the results of
    this round, so a resumed search tries the lost candidates again.
    """
    if not lost:
        return
    [(kind, count)] = Counter(kind for kind, _ in lost).most_common(1)
    if count < _LEAST or count <= _SHARE * total:
        return
    first = next(reason for of, reason in lost if of == kind).rstrip(".")
    raise WorkError(f"{count} of the {total} candidates of this round were lost to one reason ({kind}), more than a "
                    f"third, so the search stops; of the first: {first}; what is done is kept: {_cure(kind)}, and run "
                    "the same command again, which tries the lost candidates again.")


def _cure(kind: str) -> str:
    if kind == deaths.MEMORY:
        return "give it more memory, or lower search.workers or training.batch_size"
    if kind == "time":
        return "raise search.timeout_seconds"
    return "correct what is wrong, or take what fails out of search.space"
