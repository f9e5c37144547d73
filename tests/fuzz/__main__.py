"""`python -m tests.fuzz`: hostile input in parts, each short enough to run by itself.

    python -m tests.fuzz                              # every part, 100,000 cases in all; hours
    python -m tests.fuzz --part params --cases 5000 --seed 1
    python -m tests.fuzz --part params --start 5000 --cases 5000 --seconds 280
    python -m tests.fuzz --replay build/fuzz/params-0-17.case

Each part prints its seed, its cases and how they ended; a case that ended badly is written to build/fuzz, whence
`--replay` runs it again. Exits with 1 where any did.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import supervisor
from tests.fuzz.child import outcome_of
from tests.fuzz.parts import PARTS, WHOLE, make

_SHOWN = 10
HEADINGS = ("part", "seed", "cases", "accepted", "refused", "tracebacks", "hangs", "over memory", "nonsense")


def main(arguments: list[str] | None = None) -> int:
    """Run parts, or one case again; 1 where a case ended badly."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--part", action="append", choices=tuple(PARTS), help="may be given several times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the first case")
    parser.add_argument("--cases", type=int, help=f"default: the part's own number; {WHOLE:,} in all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end a part after so long, where it is")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where bad cases are written")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run a case that was written")
    options = parser.parse_args(arguments)
    if options.replay:
        return replay(options.replay)
    print(line(HEADINGS), flush=True)
    bad, total = 0, 0
    for name in options.part or PARTS:
        begun = time.monotonic()
        counts = supervisor.run(name, options.seed, options.start, options.cases or PARTS[name][2],
                                tell=_until(begun + options.seconds))
        total += counts.cases
        bad += len(counts.wrong)
        print(line((name, options.seed, counts.cases, *(counts.by_outcome[key] for key in supervisor.OUTCOMES)))
              + f"  {time.monotonic() - begun:5.0f} s", flush=True)
        _keep(counts, options.out)
    print(f"{total:,} cases, {bad:,} of them ended badly.")
    return 1 if bad else 0


def line(cells: tuple[object, ...]) -> str:
    """A row of the table."""
    return "".join(f"{cell!s:>12}" for cell in cells)


def replay(path: Path) -> int:
    """Run a case again, in this process."""
    name = path.name.split("-")[0]
    with tempfile.TemporaryDirectory() as folder:
        outcome, why = outcome_of(make(name, Path(folder)), path.read_bytes())
    print(f"{path}: {outcome}\n{why}")
    return 0 if outcome in ("accepted", "refused") else 1


def _until(end: float) -> Callable[[int, supervisor.Counts], None]:
    """Show where a part is; end it at `end`, of the monotonic clock."""
    def tell(done: int, counts: supervisor.Counts) -> None:
        if sys.stderr.isatty() and done % 100 == 0:
            print(f"\r{counts.part} {done:,}", end="\r", file=sys.stderr, flush=True)
        if time.monotonic() > end:
            raise supervisor.Enough
    return tell


def _keep(counts: supervisor.Counts, out: Path) -> None:
    if not counts.wrong:
        return
    out.mkdir(parents=True, exist_ok=True)
    for wrong in counts.wrong:
        path = out / f"{counts.part}-{counts.seed}-{wrong.number}.case"
        path.write_bytes(wrong.content)
        path.with_suffix(".txt").write_text(f"{wrong.outcome}\n{wrong.why}\n")
    for wrong in counts.wrong[:_SHOWN]:
        last = wrong.why.strip().splitlines()[-1][:200] if wrong.why.strip() else ""
        print(f"  {counts.part}-{counts.seed}-{wrong.number}: {wrong.outcome}: {last}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
