"""`python -m tests.faults PART [--seed S] [--count N]`: N cases of a part, a table, exit code 1 where there is a fault.

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
from tests.faults.verbs import LIGHT, VERBS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases of the parts; 1 where one of them is a fault."""
    options = _parse(arguments)
    rows = []
    with Bench(options.work, fresh=options.fresh).ready(keep=options.keep) as bench:
        import_everything(light=bool(options.verbs) and set(options.verbs) <= set(LIGHT))
        for name in options.parts:
            part = importlib.import_module(f"tests.faults.parts.{name}")
            if (reason := part.impossible()) is not None:
                print(f"{name}: left out: {reason}")
                continue
            places = ([options.case] if options.case is not None
                      else range(options.first, options.first + options.count))
            rows.append(_counts(name, options.seed, [_one(bench, name, part, options, place) for place in places]))
    print(_table(rows))
    return 1 if any(row["faults"] for row in rows) else 0


def _one(bench: Bench, name: str, part, options: argparse.Namespace, place: int) -> Result:  # noqa: ANN001
    begun = time.monotonic()
    verb = VERBS[options.verbs[place % len(options.verbs)]] if options.verbs else None
    result = part.run(bench, options.seed, place, verb)
    how = f"FAULT: {result.fault[:300]}" if result.fault else result.how
    seconds = time.monotonic() - begun
    print(f"{place:>4}  {seconds:5.1f} s  {result.verb:<18} {result.disturbance:<58} {how}", flush=True)
    if result.fault:
        own = f" VERBS='{','.join(options.verbs)}'" if options.verbs else ""
        print(f"      written to {_write(bench.work, name, options.seed, place, own, result)}", flush=True)
    return result


def _counts(part: str, seed: int, results: Sequence[Result]) -> dict[str, str | int]:
    undisturbed = sum(result.fault is None and result.how == "undisturbed" for result in results)
    faults = sum(result.fault is not None for result in results)
    return {"part": part, "seed": seed, "cases": len(results), "kills": sum(result.kills for result in results),
            "undisturbed": undisturbed, "sentences": len(results) - undisturbed - faults, "faults": faults}


def _table(rows: Sequence[dict[str, str | int]]) -> str:
    if not rows:
        return "nothing was tried."
    lines = [[*rows[0]], *(list(map(str, row.values())) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines)


def _write(work: Path, part: str, seed: int, place: int, own: str, result: Result) -> Path:
    folder = work / "found"
    folder.mkdir(exist_ok=True)
    path = folder / f"{part}-{seed}-{place}.txt"
    lines = [f"fault: {result.fault}", f"verb: {result.verb}", f"disturbance: {result.disturbance}",
             f"again: make faults PART={part} SEED={seed} CASE={place}{own}", ""]
    for end in result.ends:
        lines += [f"$ {end.command}", f"exit code {end.code} after {end.seconds:.1f} s", "standard output:", end.said,
                  "standard error:", end.error, ""]
    path.write_text("\n".join(lines))
    return path


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20, help="how many cases of each part (default: 20)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: 0)")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--verbs", type=lambda text: text.split(","), metavar="VERB,VERB", help="of these verbs alone")
    parser.add_argument("--fresh", action="store_true", help="start an interpreter for each verb, as a user does")
    parser.add_argument("--keep", action="store_true", help="use stages and undisturbed runs of earlier code too")
    parser.add_argument("--work", type=Path, default=ROOT / "build/faults", help="default: build/faults")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
