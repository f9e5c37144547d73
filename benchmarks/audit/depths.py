"""`python -m benchmarks.audit.depths --before DIR`: what each depth of the audit costs, beside an older checkout.

Each measurement is a process of its own, this code and the other in turns, in processor seconds, so that a busy machine
does not matter much. The copy that the deep audit asks in another process is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.audit import data
from benchmarks.machine import hardware
from parapet.cli import guarded
from parapet.errors import InputError
from tests.attacks.maskers.networks import prepare

# At most so much more than before for a candidate and a member of the front, and for the deep audit alone so many times
# as long as the one of the front.
MORE, DEEP = 1.10, 3.0
_HERE = Path(__file__).resolve().parents[2]
_EPS = 0.2
_NETS = ("robust", "undefended")

Seconds = dict[str, list[float]]


def measure(checkout: Path, weights: Path, dataset: Path, count: int) -> dict[str, float]:
    """Seconds of each depth with the code and the params.yaml of `checkout`."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, Path(__file__).with_name("depths_child.py"), weights, dataset, str(count),
                           str(_EPS), checkout / "params.yaml"], env=environment, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}"]
        raise InputError(f"{checkout} could not be measured: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(found: dict[str, tuple[Seconds, Seconds]], count: int) -> Table:
    """A row for each net and depth: medians, and the ratios of pairs to what is to be reached."""
    drawn = Table(title=f"Suite on the digits' test split, audit of {count} of them, L-inf {_EPS:g}; medians of "
                        f"processor seconds; {hardware('cpu')}", title_justify="left")
    for heading in ("net", "depth", "before", "now", "now / before", "deep / its audit", "to reach"):
        drawn.add_column(heading)
    for net, (before, now) in found.items():
        for depth in ("candidate", "front"):
            if before.get(depth):
                ratio = statistics.median(new / old for new, old in zip(now[depth], before[depth]))
                drawn.add_row(net, depth, f"{statistics.median(before[depth]):.2f}",
                              f"{statistics.median(now[depth]):.2f}", f"{ratio:.2f}", "",
                              "met" if ratio <= MORE else f"at most {MORE:g}")
        times = statistics.median(deep / short for deep, short in zip(now["deep"], now["audit"]))
        drawn.add_row(net, "deep audit", "", f"{statistics.median(now['deep']):.2f}", "", f"{times:.2f}",
                      "met" if times <= DEEP else f"at most {DEEP:g}")
    return drawn


def run(options: argparse.Namespace) -> None:
    """Measure in turns and print the table."""
    digits = data.prepared("digits", options.nets)
    if options.rounds < 1 or not 1 <= options.images <= digits.images["test"]:
        raise InputError(f"--rounds is {options.rounds} and --images is {options.images}; there must be at least one "
                         f"round, and 1 to {digits.images['test']} images.")
    folder, found = prepare(digits, options.nets / "maskers"), {}
    for net in _NETS:
        before, now = {}, {}
        for _ in range(options.rounds):
            for checkout, seconds in ((options.before, before), (_HERE, now)):
                if checkout is not None:
                    for depth, value in measure(checkout, folder / f"{net}.safetensors", options.nets / "data-digits",
                                                options.images).items():
                        seconds.setdefault(depth, []).append(value)
        found[net] = before, now
    Console(width=130).print(table(found, options.images))


def main() -> int:
    """Read the options and measure."""
    given = argparse.ArgumentParser(prog="python -m benchmarks.audit.depths", description=__doc__)
    given.add_argument("--before", type=Path, metavar="DIR", help="a checkout of another version of Parapet")
    given.add_argument("--images", type=int, default=100)
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--nets", type=Path, default=Path(tempfile.gettempdir()) / "parapet-audit-nets", metavar="DIR")
    options = given.parse_args()
    return guarded("benchmarks.audit.depths", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
