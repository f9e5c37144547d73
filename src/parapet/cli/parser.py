"""The verbs of `parapet` and their options; a step's verb is the step's name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import parapet
from parapet.catalogue.datasets import DATASETS
from parapet.cli import archive, attack, promote, train, verbs
from parapet.cli.arguments import Parser, debuggable, pathname
from parapet.cli.project import lasting


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with `verb` as the function to call; exits with 2 where they cannot be read."""
    parser = Parser(
        prog="parapet", description="Search image classifiers that are accurate, robust to attack and cheap to run.")
    parser.add_argument("--version", action="version", version=f"parapet {parapet.__version__}")
    sub = parser.add_subparsers(required=True, metavar="VERB", dest="command")

    def verb(name: str, function: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = sub.add_parser(name, help=text, description=text)
        added.set_defaults(verb=function)
        added.add_argument("--params", type=pathname, default=Path("params.yaml"), metavar="FILE",
                           help="parameters (default: params.yaml)")
        return added

    def path(added: argparse.ArgumentParser, name: str, default: str, text: str) -> None:
        added.add_argument(f"--{name}", type=lasting if name == "cache" else Path, default=default, metavar="DIR",
                           help=f"{text} (default: {default})")

    def views(added: argparse.ArgumentParser) -> None:
        added.add_argument("--watch", action="store_true", help="a live table of the search in a terminal")
        added.add_argument("--dry-run", action="store_true",
                           help="time a few candidates, print how long the search would take, and stop")

    check = verb("check", verbs.check, "read parameters and data and say in one sentence what is wrong")
    path(check, "out", "artifacts", "folder that the run will write to")
    check.add_argument("--complete", action="store_true", help="require every section, as dvc.yaml does")
    check.add_argument("--unrolled", action="store_true", help="also check what a search on Kubeflow does not support")

    run = verb("run", verbs.run, "the whole pipeline, without DVC")
    run.add_argument("--out", type=pathname, required=True, metavar="DIR", help="folder for everything the run makes")
    run.add_argument("--cache", type=pathname, metavar="DIR", help="candidate cache (default: OUT/.parapet)")
    views(run)

    data_prep = verb("data_prep", verbs.data_prep, "verify, split and fingerprint the data set")
    path(data_prep, "out", "artifacts/dataset", "prepared data set")

    search = verb("search", verbs.search, "NSGA-II over architectures and training recipes")
    path(search, "dataset", "artifacts/dataset", "prepared data set")
    path(search, "out", "artifacts/search", "archive and front")
    path(search, "cache", ".parapet", "candidate cache, from which a killed search resumes")
    views(search)

    evaluation = verb("full_evaluation", verbs.full_evaluation, "whole suite and audit of the front, on the test split")
    path(evaluation, "dataset", "artifacts/dataset", "prepared data set")
    path(evaluation, "search", "artifacts/search", "archive and front")
    path(evaluation, "out", "artifacts/evaluation", "evaluations")
    path(evaluation, "cache", ".parapet", "candidate cache")

    front = verb("front", verbs.front, "assemble front.json, metrics.json and the ONNX files")
    path(front, "out", "artifacts", "folder with dataset/, search/ and evaluation/; receives front.json")

    report = verb("report", verbs.report, "the HTML report, model cards and tables for dvc plots")
    path(report, "out", "artifacts", "folder with front.json; receives report/ and plots/")
    path(report, "cache", ".parapet", "candidate cache")

    chosen = verb("select", promote.select, "choose one member of the front, and say why")
    promote.select_options(chosen)

    for name in ("promote", "promotion"):  # the step's name is a verb too
        promotion = verb(name, promote.promote, "choose one member of the front, register it, pass the gate, make it "
                         "champion; or copy the champion to another environment")
        promote.promote_options(promotion)

    rollback = verb("rollback", promote.rollback, "make the previous champion the champion again")
    promote.rollback_options(rollback)

    serve = verb("serve", promote.serve, "answer prediction requests over HTTP with the champion")
    promote.serve_options(serve)

    sync = verb("sync", verbs.sync, "send the records that MLflow has not received yet")
    path(sync, "cache", ".parapet", "candidate cache")

    for name, module, function, text in (
            ("attack", attack, attack.attack, "attack any model on any images, and audit it"),
            ("train", train, train.train, "train one model from a named recipe"),
            ("archive", archive, archive.archive, "list, show, compare and verify what a search has measured")):
        added = sub.add_parser(name, help=text, description=text, epilog=module.EXAMPLES,
                               formatter_class=argparse.RawDescriptionHelpFormatter)
        added.set_defaults(verb=function)
        module.add_options(added)

    data = sub.add_parser("data", help="download data sets", description="Download data sets.")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    fetch = actions.add_parser("fetch", help="download a data set into data/NAME and verify it")
    fetch.set_defaults(verb=verbs.data_fetch)
    fetch.add_argument("name", metavar="NAME", help=f"one of {', '.join(DATASETS)}")
    fetch.add_argument("--from", dest="source", type=pathname, metavar="DIR", help="copy the files from this folder")
    path(fetch, "root", "data", "folder of data sets")
    debuggable(parser)
    return parser.parse_args(arguments)
