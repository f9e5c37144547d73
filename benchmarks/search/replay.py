"""A search replayed on the table of real trainings: requests are answered by rows, every row is paid once.

What a moment of a search is worth is what it would hand over if it ended there: networks trained from scratch at full
fidelity. A search with rungs has none until its end, so each point of its curve also pays for training the front of
that moment from scratch.

One thing is not as in a real search. A row that began with inherited weights had the nearest genome of earlier batches
of the table as its parent, and answers every request to inherit, whatever parent the replayed search had in mind.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.search import setting
from parapet.config import SearchConfig
from parapet.disk.files import digest
from parapet.errors import InputError
from parapet.genome import Genome, point
from parapet.intervals import wilson
from parapet.search.feasibility import infeasible_record
from parapet.search.front import front, hypervolume
from parapet.search.schedule import of_generations, trained_from_scratch
from parapet.store.records import Accuracies, Proposal, Record, Request

Row = dict[str, Any]
CHAINS = ("cold", "inherited")


class Table:
    """The rows of the genomes that have all of theirs, from scratch and cold at every rung; inherited ones may lack."""

    def __init__(self, rows: Iterable[Row], genomes: Iterable[Genome] | None = None) -> None:
        """`genomes` are those of the whole space, by default the tabulated one; other rows are left out."""
        space = setting.genomes() if genomes is None else list(genomes)
        self.rungs = {fidelity.epochs: fidelity.rung for fidelity in setting.ladder()}
        self.whole = len(space)
        by_name: dict[str, dict[tuple[str, int], Row]] = {}
        for row in rows:
            by_name.setdefault(row["genome"], {})[row["kind"], row["rung"]] = row
        last = max(self.rungs.values())
        wanted = [("scratch", last), *(("cold", rung) for rung in self.rungs.values())]
        self._rows = {point(genome.to_dict()): by_name[name] for genome in space
                      if (name := genome.digest()[:12]) in by_name and all(key in by_name[name] for key in wanted)}
        self.genomes = [genome for genome in space if genome in self]

    def __contains__(self, genome: Genome) -> bool:
        return point(genome.to_dict()) in self._rows

    def __len__(self) -> int:
        return len(self.genomes)

    @property
    def title(self) -> str:
        """Which genomes these are."""
        if len(self) == self.whole:
            return f"digits, {self.whole} genomes"
        return f"digits, PARTIAL TABLE: the space is the {len(self)} of {self.whole} genomes trained so far"

    def row(self, genome: Genome, kind: str, rung: int) -> Row | None:
        """The row of a `kind`, "scratch", "cold" or "inherited", or None."""
        return self._rows[point(genome.to_dict())].get((kind, rung))

    def chain(self, genome: Genome, kind: str, epochs: int) -> list[Row]:
        """The rows of the ladder up to `epochs` in all; the cold ones where the genome has no inherited ones."""
        if kind == "inherited" and self.row(genome, kind, 0) is None:
            kind = "cold"
        return [self.row(genome, kind, rung) for rung in range(self.rungs[epochs] + 1)]


@dataclass
class Replay:
    """One search: `answer` its requests; `points` grows by one with each candidate of full fidelity.

    retrained: whether what was promoted or inherited is handed over trained from scratch, as Parapet does it, or as it
    was found. seconds: of training, paid so far. points: (seconds with the handover, hypervolume on validation and on
    test).
    """

    table: Table
    config: SearchConfig
    records: list[Record] = field(default_factory=list)
    points: list[tuple[float, float, float]] = field(default_factory=list)
    seconds: float = 0.0
    retrained: bool = True
    _paid: set[tuple[str, str, int]] = field(default_factory=set)
    _kinds: dict[str, str] = field(default_factory=dict)
    _answers: dict[str, Record] = field(default_factory=dict)

    @property
    def trainings(self) -> int:
        """Full trainings from scratch that were paid."""
        return sum(kind == "scratch" for _, kind, _ in self._paid)

    def answer(self, request: Request) -> Record:
        """The archive record of a request; asked again it costs nothing and leaves no second record."""
        parent = request.parent and {"training_key": request.parent.training_key, "kind": request.parent.kind}
        key = digest([request.genome.to_dict(), request.fidelity.to_dict(), parent])
        if key in self._answers:
            return self._answers[key]
        kind = self._kind(request)
        rows = self._rows(request.genome, kind, request.fidelity.epochs)
        self.seconds += self._cost(rows)
        self._paid.update(map(_place, rows))
        self._kinds[key] = kind
        record = self._answers[key] = self._record(rows[-1], request, key)
        self.records.append(record)
        if request.fidelity.full:
            self._note()
        return record

    def _kind(self, request: Request) -> str:
        if request.parent is None:
            return "scratch" if request.fidelity.full else "cold"
        return "inherited" if request.parent.kind == "inherited" else self._kinds[request.parent.training_key]

    def _rows(self, genome: Genome, kind: str, epochs: int) -> list[Row]:
        if kind == "scratch":
            return [self.table.row(genome, kind, self.table.rungs[epochs])]
        return self.table.chain(genome, kind, epochs)

    def _cost(self, rows: Iterable[Row]) -> float:
        return sum(row["cpu_seconds"] for row in rows if _place(row) not in self._paid)

    def _note(self) -> None:
        """What would be handed over now, and what it would have cost in all."""
        last, names = max(self.table.rungs.values()), self.config.objectives
        if not self.retrained:
            self._note_as_found(names)
            return
        pending = [member for member in front(of_generations(self.records), names) if member.parent is not None]
        rows = {member.id: self.table.row(member.genome, "scratch", last) for member in pending}
        have = trained_from_scratch(self.records)
        known = {record.point for record in have}
        have += [_measured(member, rows[member.id], self.config) for member in pending
                 if member.point not in known]
        members = front(have, names)  # chosen by validation; test only judges them
        tested = [replace(member, validation=_accuracies(self._test(member, last))) for member in members]
        box = self.config.ideal, self.config.reference
        self.points.append((self.seconds + self._cost(rows.values()), hypervolume(members, *box),
                            hypervolume(tested, *box)))

    def _note_as_found(self, names: Sequence[str]) -> None:
        members = front(of_generations(self.records), names)
        rows = [self._rows(member.genome, self._kinds[member.training_key], member.fidelity.epochs)[-1]
                for member in members]
        tested = [replace(member, validation=_accuracies(row["test"])) for member, row in zip(members, rows)]
        box = self.config.ideal, self.config.reference
        self.points.append((self.seconds, hypervolume(members, *box), hypervolume(tested, *box)))

    def _test(self, member: Record, last: int) -> Sequence[float]:
        return self.table.row(member.genome, "scratch", last)["test"]

    def _record(self, row: Row, request: Request, key: str) -> Record:
        bare = infeasible_record(Proposal.of(request, id=key[:12], generation=0, seed=0, fingerprint="",
                                             training_key=key, evaluation_key=""), None, setting.params())
        return _measured(bare, row, self.config)


class Curve:
    """Hypervolume on `split` over training seconds: a staircase of what a search that ended then would hand over."""

    def __init__(self, points: Sequence[Sequence[float]], split: str) -> None:
        """`points` are those of a `Replay`, in its order; `split` is "validation" or "test"."""
        place = 1 + ("validation", "test").index(split)
        steps: list[tuple[float, float]] = []
        for row in points:
            # A later moment may be cheaper to hand over than an earlier one: then nobody would stop at that.
            while steps and steps[-1][0] >= row[0]:
                steps.pop()
            steps.append((row[0], row[place]))
        self.seconds, self.values = [step[0] for step in steps], [step[1] for step in steps]

    def at(self, seconds: float) -> float:
        """The hypervolume of what can be handed over after `seconds`; 0 before the first front."""
        place = bisect.bisect_right(self.seconds, seconds)
        return self.values[place - 1] if place else 0.0

    def reaches(self, level: float, within: float) -> float | None:
        """The first second at which the curve is at `level` or above; None where it is not `within` so many."""
        return next((seconds for seconds, value in zip(self.seconds, self.values)
                     if value >= level and seconds <= within), None)


def load(path: Any) -> Table:
    """The table at `path`. Raises InputError where it holds too little to search."""
    from benchmarks.search.table import read

    table = Table(read(path))
    if len(table) < 48:
        raise InputError(f"{path} holds {len(table)} whole genomes, and a replay needs 48 or more; fill it with "
                         "`python -m benchmarks.search table`.")
    return table


def _place(row: Row) -> tuple[str, str, int]:
    return row["genome"], row["kind"], row["rung"]


def _accuracies(block: Sequence[float]) -> Accuracies:
    clean, robust, n = block
    return Accuracies(int(n), clean, list(wilson(round(clean * n), int(n))), robust,
                      list(wilson(round(robust * n), int(n))), {})


def _measured(record: Record, row: Row, config: SearchConfig) -> Record:
    """`record` with the numbers of `row`, feasible or not by the search's own floor."""
    validation = None if "failed" in row else _accuracies(row["validation"])
    gap = None if validation is None else max(0.0, config.minimum_clean_accuracy - validation.clean_accuracy)
    reason = row.get("failed") or (f"clean accuracy is {gap:.3f} too low" if gap else None)
    return replace(record, status="infeasible" if reason else "feasible", reason=reason, violation=gap,
                   validation=validation, flops=row.get("flops"), params=row.get("params"),
                   training_seconds=row["cpu_seconds"], training_flops=row.get("training_flops"))
