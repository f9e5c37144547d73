"""`python -m benchmarks.search {table,replay,plot}`: fill the table of real trainings, replay searches on it, draw."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.search import setting, table
from parapet.cli import guarded
from parapet.disk.files import read_json, write_text


def _say(text: str) -> None:
    print(text, flush=True)


def _replay(options: argparse.Namespace) -> None:
    from benchmarks.search import fidelities, replay, verdict

    record = verdict.replay_all(replay.load(options.table), seeds=options.seeds, population=options.population,
                                generations=options.generations, say=_say)
    verdict.write(options.record, record)
    console = Console(width=150)
    console.print(fidelities.drawn(record["fidelities"]))
    for split in verdict.SPLITS:
        console.print(verdict.drawn(record, split))
    for split in verdict.SPLITS:
        _say(verdict.sentence(record, "rungs, warm starts", split))
    _say("Inherited rows had the nearest genome of earlier batches of the table as their parent, not the replayed "
         "search's own.")
    _plot(options)


def _plot(options: argparse.Namespace) -> None:
    from benchmarks.search import plot

    write_text(options.picture, plot.picture(read_json(options.record)))
    _say(f"{options.picture} drawn from {options.record}")


def _live(options: argparse.Namespace) -> None:
    from benchmarks.search import live

    names = options.only or [*live.OURS, *live.OTHERS]
    live.run(names, options.data, options.out, live.RECORD, hours=options.hours, workers=options.workers, say=_say)


def _add_costs(sub: argparse._SubParsersAction) -> None:
    """What searching costs, and how a machine is best shared by candidates."""
    from benchmarks.search import costs

    costs.add_options(sub, _say)


def main() -> int:
    """Read the options and do what they say."""
    from benchmarks.search.plot import PICTURE
    from benchmarks.search.verdict import RECORD

    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    sub = parser.add_subparsers(required=True, metavar="WHAT")
    filled = sub.add_parser("table", help="train what the table lacks (some two hours of 2 cores in all)")
    filled.add_argument("--work", type=Path, default=Path("runs/search-table"), metavar="DIR", help="weights")
    filled.add_argument("--workers", type=int, default=2)
    filled.set_defaults(verb=lambda options: table.fill(options.table, options.work, workers=options.workers,
                                                        say=_say))
    replayed = sub.add_parser("replay", help="replay searches on the table, print, keep the record, draw (minutes)")
    replayed.add_argument("--seeds", type=int, default=30)
    replayed.add_argument("--population", type=int, default=12)
    replayed.add_argument("--generations", type=int, default=10, help="of plain NSGA-II (default: %(default)s)")
    replayed.set_defaults(verb=_replay)
    redrawn = sub.add_parser("plot", help="draw the picture from the record alone")
    redrawn.set_defaults(verb=_plot)
    living = sub.add_parser("live", help="one search of each kind on MNIST (17 minutes each on 2 cores)")
    living.add_argument("--data", type=Path, required=True, metavar="DIR", help="data sets as PARAPET_DATA names them")
    living.add_argument("--out", type=Path, default=Path("runs/search-live"), metavar="DIR")
    living.add_argument("--hours", type=float, default=0.5, help="of busy processes, each search")
    living.add_argument("--workers", type=int, default=2)
    living.add_argument("--only", nargs="+", metavar="NAME", help="default: all of them")
    living.set_defaults(verb=_live)
    for one in (filled, replayed):
        one.add_argument("--table", type=Path, default=setting.TABLE, metavar="FILE")
    for one in (replayed, redrawn):
        one.add_argument("--record", type=Path, default=RECORD, metavar="FILE")
        one.add_argument("--picture", type=Path, default=PICTURE, metavar="FILE")
    _add_costs(sub)
    options = parser.parse_args()
    return guarded("benchmarks.search", lambda: options.verb(options))


if __name__ == "__main__":
    sys.exit(main())
