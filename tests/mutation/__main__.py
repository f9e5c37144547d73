"""`python -m tests.mutation`: draw mutants, try a part of them, and say how many of all those tried survive.

Each mutant's outcome is kept in a file as it is found, so that parts may be run one by one and begun again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from rich.progress import track

from tests.mutation.drawing import Mutant, draw
from tests.mutation.running import KILLED, ROOT, SOURCE, SURVIVED, TIMED_OUT, Coverage, try_one

# What may survive because nobody can tell it from the original, by the mutant's name, with the reason.
EQUIVALENT = Path(__file__).parent / "equivalent.json"
TARGET, MOST_EQUIVALENT = 0.85, 0.05


def main(arguments: list[str] | None = None) -> int:
    """Try one part; 1 where the whole draw has been tried and falls short of the targets."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="mutants drawn (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="the I-th of N parts (default: 1/1)")
    parser.add_argument("--seconds", type=float, default=60,
                        help="after which no further test of a mutant begins (default: 60)")
    parser.add_argument("--coverage", type=Path, default=ROOT / ".coverage", help="data of `make coverage`")
    parser.add_argument("--durations", type=Path, default=ROOT / "build" / "tests.xml", help="likewise")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl", help="where outcomes are kept")
    parser.add_argument("--list", action="store_true", help="show the mutants of the part and try none")
    options = parser.parse_args(arguments)

    drawn = draw(SOURCE, options.count, options.seed)
    place, parts = map(int, options.part.split("/"))
    part = drawn[place - 1::parts]
    if options.list:
        print(*(mutant.name for mutant in part), sep="\n")
        return 0
    kept, coverage = _read(options.out), Coverage(options.coverage, options.durations)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    left = [one for one in part if one.name not in kept]
    # Tests that fail anyway would kill everything.
    if left and try_one(left[0], coverage.tests(left[0]), options.seconds, changed=False)[0] != SURVIVED:
        print(f"The tests of {left[0].name} fail without any mutant; mend them first: "
              f"python -m pytest {' '.join(coverage.tests(left[0]))}", file=sys.stderr)
        return 1
    for mutant in track(left, f"part {options.part}"):
        tests = coverage.tests(mutant)
        outcome, seconds = try_one(mutant, tests, options.seconds)
        kept[mutant.name] = {"mutant": mutant.name, "outcome": outcome, "seconds": round(seconds, 1),
                             "tests": len(tests)}
        with options.out.open("a") as stream:
            stream.write(json.dumps(kept[mutant.name]) + "\n")
    return _tell(drawn, kept, options)


def _read(path: Path) -> dict[str, dict]:
    if not path.exists():
        return {}
    return {entry["mutant"]: entry for entry in map(json.loads, path.read_text().splitlines())}


def _tell(drawn: list[Mutant], kept: dict[str, dict], options: argparse.Namespace) -> int:
    tried = [kept[mutant.name] for mutant in drawn if mutant.name in kept]
    counts = Counter(entry["outcome"] for entry in tried)
    known = json.loads(EQUIVALENT.read_text())
    survivors = [entry["mutant"] for entry in tried if entry["outcome"] == SURVIVED]
    equivalent = [name for name in survivors if name in known]
    print(f"seed {options.seed}: {len(tried)} of {len(drawn)} mutants tried: {counts[KILLED]} killed, "
          f"{counts[TIMED_OUT]} timed out, {counts[SURVIVED]} survived, {len(equivalent)} of them equivalent.")
    for name in survivors:
        print(f"  {name}: {known.get(name, 'SURVIVED')}")
    if not tried:
        return 0
    share = (counts[KILLED] + counts[TIMED_OUT]) / max(1, len(tried) - len(equivalent))
    print(f"{share:.1%} of those that are not equivalent are found (target {TARGET:.0%}); "
          f"{len(equivalent) / len(tried):.1%} are equivalent (at most {MOST_EQUIVALENT:.0%}).")
    return int(len(tried) == len(drawn) and (share < TARGET or len(equivalent) > MOST_EQUIVALENT * len(tried)))


if __name__ == "__main__":
    sys.exit(main())
