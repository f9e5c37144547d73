"""The subcommands `overhead`, `split` and `sharing`: what a search costs beside its trainings."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]


def add_options(sub: argparse._SubParsersAction, say: Say) -> None:
    """Add the three subcommands to `sub`."""
    added = sub.add_parser("overhead", help="milliseconds a candidate beside its training and evaluation")
    added.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000], metavar="N")
    added.add_argument("--search", type=Path, metavar="FILE", help="params.yaml of a real search to watch as well")
    added.add_argument("--dataset", type=Path, default=Path("artifacts/dataset"), metavar="DIR")
    added.set_defaults(verb=lambda options: _overhead(options, say))

    added = sub.add_parser("split", help="2 workers x 1 thread against the best single worker (minutes, quiet cores)")
    added.add_argument("--dataset", type=Path, default=Path("artifacts/dataset"), metavar="DIR")
    for name, default in (("repeats", 3), ("population", 6), ("generations", 2), ("epochs", 8)):
        added.add_argument(f"--{name}", type=int, default=default)
    added.set_defaults(verb=lambda options: _split(options, say))

    added = sub.add_parser("sharing", help="candidates an hour when several share a card, against one at a time")
    added.add_argument("--device", default="cuda")
    added.add_argument("--data", default="mnist", help="data set (default: mnist)")
    added.add_argument("--batch", type=int, default=128)
    added.add_argument("--epochs", type=int, default=28)
    added.add_argument("--most", type=int, help="processes at most (default: as many as there are cores)")
    added.set_defaults(verb=lambda options: _sharing(options, say))


def _overhead(options: argparse.Namespace, say: Say) -> int:
    from benchmarks.search import overhead

    kept = overhead.report(options.sizes, say)
    if options.search:
        found = overhead.shares(options.search, options.dataset)
        say(f"a real search of {found['wall']:.0f} s in {found['rounds']:.0f} rounds: the search's own process used "
            f"{found['cpu']:.2%} of the wall time, and between rounds nobody worked for {found['between']:.2%} "
            f"(limit 1 %); apart from that workers took {found['start']:.1%} to start and waited for the end of rounds "
            f"for {found['waiting']:.1%} of their time")
        kept &= max(found["cpu"], found["between"]) < 0.01
    return 0 if kept else 1


def _split(options: argparse.Namespace, say: Say) -> None:
    from benchmarks.search import split

    split.compare(options.dataset, say, repeats=options.repeats, population=options.population,
                  generations=options.generations, epochs=options.epochs)


def _sharing(options: argparse.Namespace, say: Say) -> None:
    from benchmarks.search import sharing
    from parapet.config import Params, parse
    from parapet.devices import resolve
    from parapet.steps import data_prep

    params = parse(Params, {"data": {"name": options.data}, "device": options.device, "threat": {"eps": 0.3},
                            "training": {"batch_size": options.batch, "epochs": options.epochs}})
    device = resolve(options.device, workers=1, threads=1)[0]
    with tempfile.TemporaryDirectory() as folder:
        data_prep.run(params, [Path(params.data.root)], Path(folder) / "dataset")
        sharing.compare(params, Path(folder) / "dataset", device, say, most=options.most)
