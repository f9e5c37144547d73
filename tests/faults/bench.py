"""One project, its undisturbed runs, and the judgement of what a disturbed one left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from parapet.disk.files import read_json, write_json
from tests.faults.ends import fault_of
from tests.faults.processes import Case, End
from tests.faults.project import Project
from tests.faults.states import differences, stale, state
from tests.faults.verbs import Verb

# A busy machine is slow, and an end within minutes is no hang.
_PATIENCE, _LEAST = 8.0, 150.0


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of a verb: what it left, what it said, how long it took, how often it changed files."""

    state: dict[str, Any]
    said: str
    seconds: float
    operations: int


@dataclass
class Result:
    """What became of one case: `how` it ended ("undisturbed", "sentence"), or its `fault`, with the ends of verbs."""

    verb: str
    disturbance: str = ""
    how: str = ""
    fault: str | None = None
    ends: list[End] = field(default_factory=list)
    kills: int = 0

    def note(self, text: str) -> None:
        """Add to the disturbance, in words."""
        self.disturbance += f"{', then ' if self.disturbance else ''}{text}"


class Bench:
    """A project in folder `work`, which nobody else uses meanwhile."""

    def __init__(self, work: Path, *, fresh: bool = False) -> None:
        self.project, self.fresh = Project(work), fresh
        self.work = self.project.work

    @contextmanager
    def ready(self, *, keep: bool = False) -> Iterator[Bench]:
        """Hold the folder; stages of the project that other code made are forgotten, unless they are to be kept."""
        self.work.mkdir(parents=True, exist_ok=True)
        with FileLock(self.work / "faults.lock"):
            self.project.begin(keep=keep)
            yield self

    @contextmanager
    def case(self) -> Iterator[Case]:
        """Processes of one case; none outlives it."""
        case = Case(self.work, fresh=self.fresh)
        try:
            yield case
        finally:
            case.left_behind()
            case.close()

    def words(self, verb: Verb) -> list[str]:
        """The command line of a verb, with this project's candidates in it."""
        return [self.project.named(word) for word in verb.words]

    def limit(self, verb: Verb) -> float:
        """After how many seconds a verb hangs."""
        return max(_LEAST, _PATIENCE * self.reference(verb).seconds)

    def reference(self, verb: Verb) -> Reference:
        """An undisturbed run of this verb, made once for these stages. It leaves the project anywhere."""
        path = self.work / "references" / f"{verb.name.replace(' ', '-')}.json"
        if path.exists():
            return Reference(**read_json(path))
        words = self.words(verb)  # may make stages, and leaves the project at the last of them
        self.project.restore(verb.stage)
        with self.case() as case:
            counter = case.folder / "operations"
            counter.touch()
            counter.chmod(0o666)
            end = case.run(words, 600, counting(self.project.place, counter))
            if (fault := fault_of(end, [0])) is not None:
                raise RuntimeError(f"undisturbed, {verb.name} {fault}:\n{end.said}\n{end.error}")
            found = Reference(json.loads(json.dumps(state(self.project.place))), end.said, end.seconds,
                              counter.stat().st_size)
        write_json(path, found.__dict__)
        return found

    def judge(self, verb: Verb, end: End, case: Case, codes: Sequence[int], result: Result) -> Result:
        """Fill in how a verb ended: as an undisturbed one or in a sentence, with nothing left running."""
        result.ends.append(end)
        result.fault = fault_of(end, codes)
        if result.fault is None and (left := case.left_behind()):
            result.fault = f"leaves behind: {'; '.join(left)}"
        if result.fault is None and end.code == 0:
            result.fault, result.how = self.disturbed(verb, end), "undisturbed"
        elif result.fault is None:
            result.how = f"sentence ({end.code})"
        return result

    def disturbed(self, verb: Verb, end: End) -> str | None:
        """How the project and what was said differ from an undisturbed run, None where they do not."""
        reference = self.reference(verb)
        try:
            lines = differences(reference.state, json.loads(json.dumps(state(self.project.place))))
        except (ValueError, KeyError) as error:
            return f"exit code 0, and leaves a file that cannot be read: {error!r}"
        lines += [f"{name} is left behind" for name in stale(self.project.place)]
        if verb.said and end.said != reference.said:
            lines.append(f"says {end.said[-300:]!r}, and undisturbed {reference.said[-300:]!r}")
        return f"exit code 0, and not as undisturbed: {'; '.join(lines)}" if lines else None

    def waits(self, end: End) -> bool:
        """Whether a verb that was done says that MLflow has not got everything, which `parapet sync` then sends."""
        return end.code == 0 and any(words in end.said for words in ("sent later", "wait for MLflow", " waiting"))

    def again(self, verb: Verb, case: Case, result: Result) -> Result:
        """The same command once more, undisturbed now: it has to end as ever."""
        return self.judge(verb, case.run(self.words(verb), self.limit(verb)), case, [0], result)


def counting(place: Path, counter: Path, kill_at: int = 0) -> dict[str, str]:
    """The environment in which changes of files are counted, and one of them is the last thing that a process does."""
    return {"PARAPET_FAULTS_FILES": str(place), "PARAPET_FAULTS_COUNTER": str(counter),
            "PARAPET_FAULTS_KILL_AT": str(kill_at)}
