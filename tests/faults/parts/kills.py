"""SIGKILL at any moment, of the verb's process, of a child or of all of them; then the same verb again."""

from __future__ import annotations

import random
import signal

from tests.faults.bench import Bench, Result, counting
from tests.faults.processes import Case
from tests.faults.verbs import VERBS, Verb

# Those with workers are where kills have most to hit.
_ORDER = ("search", "full_evaluation", "data_prep", "train", "promote", "front", "search, tracked", "attack", "report",
          "data fetch", "rollback", "sync", "promote, second", "run", "archive verify", "pipelines compile", "select",
          "report, tracked", "promote --to", "check")
# Whose work one child does, so that they end in a sentence where it dies; others try a child's work again.
_ONE_CHILD = ("train", "attack")


def impossible() -> str | None:
    """Nothing is in the way of a kill."""
    return None


def run(bench: Bench, seed: int, place: int, verb: Verb | None = None) -> Result:
    """One to three kills, and the same verb again."""
    chance = random.Random(f"kills {seed} {place}")
    verb = verb or VERBS[_ORDER[place % len(_ORDER)]]
    bench.reference(verb)
    result = Result(verb.name)
    bench.project.restore(verb.stage)
    with bench.case() as case:
        for _ in range(3 if verb.children else 1):
            if _kill(bench, verb, chance, case, result):
                break
        return result if result.fault else bench.again(verb, case, result)


def _kill(bench: Bench, verb: Verb, chance: random.Random, case: Case, result: Result) -> bool:
    """Begin the verb and kill; whether the verb ended all the same, because it came first or lost a child only."""
    reference, at, victim = bench.reference(verb), 0, ""
    counter = case.folder / f"operations-{result.kills}"
    if reference.operations and chance.random() < 0.5:
        at = chance.randint(1, reference.operations)
    running = case.start(bench.words(verb), counting(bench.project.place, counter, at))
    if at:
        how = f"change {at} of {reference.operations}"
        if running.ends_within(bench.limit(verb)) and counter.stat().st_size >= at:
            victim = "who was to make it"
    else:
        moment = chance.uniform(0.05, 1.0) * reference.seconds
        how = f"{moment:.1f} s"
        if not running.ends_within(moment):
            victim = running.kill(chance.choice(("own", "child", "group") if verb.children else ("own",)), chance)
    result.note(f"{victim or 'nobody'} killed at {how}")
    result.kills += bool(victim)
    end = running.end(bench.limit(verb))
    if end.code == -signal.SIGKILL:
        return False
    bench.judge(verb, end, case, [0, 1] if victim and verb.name in _ONE_CHILD else [0], result)
    return True
