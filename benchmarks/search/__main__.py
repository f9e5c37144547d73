"""`python -m benchmarks.search table`: fill the table of real trainings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.search import setting, table
from parapet.cli import guarded


def main() -> int:
    """Read the options and do what they say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    sub = parser.add_subparsers(required=True, metavar="WHAT")
    filled = sub.add_parser("table", help="train what the table lacks (some two hours of 2 cores in all)")
    filled.add_argument("--table", type=Path, default=setting.TABLE, metavar="FILE")
    filled.add_argument("--work", type=Path, default=Path("runs/search-table"), metavar="DIR", help="weights")
    filled.add_argument("--workers", type=int, default=2)
    filled.set_defaults(verb=lambda options: table.fill(options.table, options.work, workers=options.workers,
                                                        say=lambda text: print(text, flush=True)))
    options = parser.parse_args()
    return guarded("benchmarks.search", lambda: options.verb(options))


if __name__ == "__main__":
    sys.exit(main())
