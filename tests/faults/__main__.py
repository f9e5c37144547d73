"""`python -m tests.faults PART [--seed S] [--count N]`: N cases of one part, a table, exit code 1 where there is a fault.

Each fault is written to a file of the work folder, with how to see it again.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.bench import Bench, Result
from tests.faults.parts import PARTS
from tests.faults.processes import ROOT, import_everything


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases of one part; 1 where one of them is a fault."""
    options = _parse(arguments)
    part = importlib.import_module(f"tests.faults.parts.{options.part}")
    if (reason := part.impossible()) is not None:
        print(f"{options.part}: left out: {reason}")
        return 0
    import_everything()
    places = [options.case] if options.case is not None else range(options.first, options.first + options.count)
    results: list[Result] = []
    with Bench(options.work, fresh=options.fresh).ready() as bench:
        for place in places:
            begun = time.monotonic()
            result = part.run(bench, options.seed, place)
            results.append(result)
            print(f"{place:>4}  {time.monotonic() - begun:5.1f} s  {result.verb:<18} {result.disturbance:<58} "
                  f"{'FAULT: ' + result.fault[:300] if result.fault else result.how}", flush=True)
            if result.fault:
                print(f"      written to {_write(bench.work, options, place, result)}", flush=True)
    print(table(options.part, options.seed, results))
    return 1 if any(result.fault for result in results) else 0


def table(part: str, seed: int, results: Sequence[Result]) -> str:
    """The counts, in a heading and a row."""
    undisturbed = sum(result.fault is None and result.how == "undisturbed" for result in results)
    faults = sum(result.fault is not None for result in results)
    values = {"part": part, "seed": seed, "cases": len(results), "kills": sum(result.kills for result in results),
              "undisturbed": undisturbed, "sentences": len(results) - undisturbed - faults, "faults": faults}
    widths = [max(len(name), len(str(value))) for name, value in values.items()]
    return "\n".join("  ".join(str(word).ljust(width) for word, width in zip(row, widths)).rstrip()
                     for row in (values.keys(), values.values()))


def _write(work: Path, options: argparse.Namespace, place: int, result: Result) -> Path:
    folder = work / "found"
    folder.mkdir(exist_ok=True)
    path = folder / f"{options.part}-{options.seed}-{place}.txt"
    lines = [f"fault: {result.fault}", f"verb: {result.verb}", f"disturbance: {result.disturbance}",
             f"again: make faults PART={options.part} SEED={options.seed} CASE={place}", ""]
    for end in result.ends:
        lines += [f"$ {end.command}", f"exit code {end.code} after {end.seconds:.1f} s", "standard output:", end.said,
                  "standard error:", end.error, ""]
    path.write_text("\n".join(lines))
    return path


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20, help="how many cases (default: 20)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: 0)")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--fresh", action="store_true", help="start an interpreter for each verb, as a user does")
    parser.add_argument("--work", type=Path, default=ROOT / "build/faults", help="default: build/faults")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
