"""Two processes in one folder at the same time: both end as an undisturbed run, or one of them in a sentence."""

from __future__ import annotations

import json
import random

from tests.faults.bench import Bench, Result
from tests.faults.ends import fault_of
from tests.faults.states import differences, state
from tests.faults.verbs import VERBS, Verb

_ORDER = ("search", "data_prep", "front", "promote", "report", "full_evaluation", "train", "sync", "rollback",
          "data fetch", "attack", "pipelines compile", "search, tracked", "promote, second", "promote --to",
          "report, tracked", "run", "archive verify", "select", "check")


def impossible() -> str | None:
    """Two processes can always be begun."""
    return None


def run(bench: Bench, seed: int, place: int, verb: Verb | None = None) -> Result:
    """The same verb twice, the second one a moment later."""
    chance = random.Random(f"pairs {seed} {place}")
    verb = verb or VERBS[_ORDER[place % len(_ORDER)]]
    reference = bench.reference(verb)
    bench.project.restore(verb.stage)
    # Close together they race for every file; further apart the second one meets what is half done.
    later = chance.choice((0.0, 0.0, chance.uniform(0, 0.3), chance.uniform(0, 0.9))) * reference.seconds
    result = Result(verb.name, f"twice, {later:.2f} s apart")
    with bench.case() as case:
        first = case.start(bench.words(verb))
        first.ends_within(later)
        second = case.start(bench.words(verb))
        result.ends = [each.end(2 * bench.limit(verb)) for each in (first, second)]
        result.fault = next(filter(None, (fault_of(end, [0, 1, 2]) for end in result.ends)), None)
        if result.fault is None and all(end.code for end in result.ends):
            result.fault = "both gave up"
        if result.fault is None and (left := case.left_behind()):
            result.fault = f"leaves behind: {'; '.join(left)}"
        if result.fault is None:
            done = [end for end in result.ends if end.code == 0]
            result.how = "undisturbed" if len(done) == 2 else "sentence"
            problems = [bench.disturbed(verb, end) for end in done]
            if verb.name == "rollback" and len(done) == 2:
                bench_state = json.loads(json.dumps(state(bench.project.place)))
                bench.project.restore(verb.stage)
                lines = differences(json.loads(json.dumps(state(bench.project.place))), bench_state)
                problems = [f"two rollbacks are not none: {'; '.join(lines)}" if lines else None]
            result.fault = next(filter(None, problems), None)
        return result
