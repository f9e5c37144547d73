"""`python -m benchmarks.audit`: which models that hide how they fall get past the audit, and which honest ones fail.

Every model's record is written as soon as it is made, and one that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.audit import data, honest, measure, report
from benchmarks.machine import hardware
from parapet.attacks.compositions import AUTO_ATTACKS
from parapet.cli import guarded
from parapet.disk.files import write_json
from parapet.errors import InputError
from parapet.quoting import listed
from parapet.versions import ATTACK_VERSION
from tests.attacks.maskers import MASKERS
from tests.attacks.maskers.networks import prepare

# One masker that gradients give away, one that another process does, one decoy; a robust and an undefended net.
QUICK = ("gradient_killed", "halves", "decoy_robust_02", "pgd_silu_02", "undefended_02")


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure what is asked for, print the table, and return its records."""
    torch.set_num_threads(options.threads)
    known = _known(options)
    names = _names(options)
    console, records = Console(width=200), []
    for name in track(names, "models", console=console):
        key = {"attack_version": ATTACK_VERSION, "suite": options.suite, "images": options.images}
        if options.again or {part: known.get(name, {}).get(part) for part in key} != key:
            try:
                known[name] = {**_measured(name, options), **key}
            except InputError as error:  # published data that are not there
                console.print(f"{name} is left out: {error}")
                continue
            write_json(options.json, {"hardware": hardware("cpu"), "records": list(known.values())})
            console.print(_line(known[name]))
        records.append(known[name])
    console.print(report.table(records, f"{options.images} images, suite {options.suite} and deep audit, attacks "
                                        f"{ATTACK_VERSION}; {hardware('cpu')}"))
    for sentence in report.summary(records):
        console.print(sentence)
    return records


def _measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    if name in MASKERS:
        digits = data.prepared("digits", options.nets)
        images, labels = digits.split("test", limit=options.images).all()
        return measure.measure_masker(name, prepare(digits, options.nets / "maskers"), images, labels,
                                      suite=options.suite)
    return measure.measure_honest(name, honest.examined(name, options.nets, options.images), suite=options.suite)


def _line(record: dict[str, Any]) -> str:
    shown = "no number" if record["shown"] is None else f"{record['shown']:.0%}"
    checks = f" ({', '.join(record['failed'] or record['warned'])})" if record["failed"] or record["warned"] else ""
    return (f"{record['name']}: truth {record['truth']:.0%}, shown {shown}, {record['verdict']}{checks}, "
            f"{record['seconds']:.0f} s")


def _known(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    records = json.loads(options.json.read_text())["records"] if options.json.exists() else []
    return {record["name"]: record for record in records}


def _names(options: argparse.Namespace) -> list[str]:
    if options.only:
        names = options.only.split(",")
        if unknown := [name for name in names if name not in MASKERS and name not in honest.HONEST]:
            raise InputError(f"--only names {listed(unknown)}; allowed: {', '.join([*MASKERS, *honest.HONEST])}.")
        return names
    both = options.maskers == options.honest
    names = [*(MASKERS if both or options.maskers else ()), *(honest.HONEST if both or options.honest else ())]
    return [name for name in names if not options.quick or name in QUICK]


def parser() -> argparse.ArgumentParser:
    """The options."""
    given = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    given.add_argument("--maskers", action="store_true", help="the maskers alone")
    given.add_argument("--honest", action="store_true", help="the honest nets alone")
    given.add_argument("--only", metavar="NAME,...", help="these models alone")
    given.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)} alone")
    given.add_argument("--images", type=int, default=100)
    given.add_argument("--suite", choices=AUTO_ATTACKS, default="rapid", help="default: %(default)s")
    given.add_argument("--nets", type=Path, default=Path(tempfile.gettempdir()) / "parapet-audit-nets", metavar="DIR",
                       help="where trained nets are kept (default: below the system's temporary folder)")
    given.add_argument("--json", type=Path, default=Path("benchmarks/results/audit.json"), metavar="FILE",
                       help="default: %(default)s")
    given.add_argument("--again", action="store_true", help="measure anew what was measured")
    given.add_argument("--threads", type=int, default=1)
    return given


def main() -> int:
    """Read the options and run the benchmark."""
    options = parser().parse_args()
    return guarded("benchmarks.audit", lambda: run(options) and None)


if __name__ == "__main__":
    sys.exit(main())
