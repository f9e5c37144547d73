"""The verbs: each reads the parameters, finds the folders and calls its step."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from parapet import log
from parapet.cli import checks
from parapet.cli.project import is_experiment
from parapet.cli.tracking import gateway, git_revision, page, tracked
from parapet.config import Params, load
from parapet.devices import resolve


def check(options: argparse.Namespace) -> None:
    """Check everything that can be checked before work begins."""
    params = load(options.params, complete=options.complete)
    print(checks.everything(params, options.out, _roots(params), unrolled=options.unrolled))
    print(f"{options.params} and the data set {params.data.name} are in order.")


def run(options: argparse.Namespace) -> None:
    """The whole pipeline; the same steps as the stages of dvc.yaml."""
    params = load(options.params)
    print(checks.everything(params, options.out, _roots(params)), flush=True)
    if options.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            _data_prep(params, Path(folder) / "dataset")
            _forecast(params, Path(folder) / "dataset")
        return
    from parapet.steps import places
    from parapet.steps.search import only_search

    out = options.out
    cache = options.cache or out / ".parapet"
    places.check(out, cache)
    with only_search(cache):  # before the data set is prepared: another run may be reading it
        with log.span("data_prep"):
            _data_prep(params, out / "dataset")
        with log.span("search"):
            _search(params, out / "dataset", out / "search", cache, watch=options.watch)
        with log.span("full_evaluation"):
            _full_evaluation(params, out / "dataset", out / "search", out / "evaluation", cache)
        with log.span("front"):
            _front(params, out)
        with log.span("report"):
            _report(params, out, cache)


def data_prep(options: argparse.Namespace) -> None:
    """The step data_prep."""
    _data_prep(load(options.params), options.out)


def search(options: argparse.Namespace) -> None:
    """The step search."""
    params = load(options.params)
    if options.dry_run:
        _forecast(params, options.dataset)
    else:
        _search(params, options.dataset, options.out, options.cache, watch=options.watch)


def full_evaluation(options: argparse.Namespace) -> None:
    """The step full_evaluation."""
    _full_evaluation(load(options.params), options.dataset, options.search, options.out, options.cache)


def front(options: argparse.Namespace) -> None:
    """The step front."""
    _front(load(options.params), options.out)


def report(options: argparse.Namespace) -> None:
    """The step report."""
    _report(load(options.params), options.out, options.cache)


def sync(options: argparse.Namespace) -> None:
    """Send the records that MLflow has not received yet."""
    from parapet.errors import InputError, WorkError, is_closed
    from parapet.tracking import Outbox, flush
    from parapet.tracking.connection import unusable_database

    params = load(options.params)
    where = gateway()
    if (locked := unusable_database(where.uri)) is not None:
        raise InputError(locked)
    sent = flush(Outbox(options.cache / "outbox"), where.uri, params.tracking.experiment, where.artifacts)
    for text in sent.warnings:
        print(text)
    if sent.kept and sent.reason:
        kind = InputError if is_closed(WorkError(sent.reason)) else WorkError
        raise kind(f"{sent.sent} sent, {sent.kept} waiting: {sent.reason.rstrip('.')}; run `parapet sync` again when "
                   "that is mended.")
    print(f"{sent.sent} sent, {sent.kept} waiting.")


def data_fetch(options: argparse.Namespace) -> None:
    """Download one data set and print how to pin it."""
    from rich.progress import Progress

    from parapet.data.fetch import fetch

    with Progress() as progress:
        tasks: dict[str, Any] = {}

        def show(done: int, total: int | None, name: str) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        folder = fetch(options.name, options.root, options.source, show)
    print(f"{folder} is complete and verified; pin it with: dvc add {options.root}")


def _roots(params: Params) -> list[Path]:
    given = os.environ.get("PARAPET_DATA")
    return [Path(given), Path(params.data.root)] if given else [Path(params.data.root)]


def _devices(params: Params) -> list[str]:
    return resolve(params.device, workers=params.search.workers, threads=params.search.threads)


def _sharing(params: Params, dataset: Path, kept: Path) -> list[str]:
    """The device of each worker of the search; several workers share a card that one worker does not fill."""
    from parapet.search.sharing import per_card

    def timed(card: str) -> int:
        print("timing how many candidates should share a card", flush=True)
        return per_card(params, dataset, card, kept)
    return resolve(params.device, workers=params.search.workers, threads=params.search.threads, per_card=timed,
                   together=params.training.gpus)


def _data_prep(params: Params, out: Path) -> None:
    from parapet.steps import data_prep as step

    numbers = step.run(params, _roots(params), out)
    print(f"data_prep  {numbers['train_images']:,} training, {numbers['validation_images']:,} validation and "
          f"{numbers['test_images']:,} test images; fingerprint {numbers['fingerprint'][:12]}", flush=True)


def _search(params: Params, dataset: Path, out: Path, cache: Path, *, watch: bool) -> None:
    from parapet.data.info import read_info
    from parapet.steps import search as step

    info = read_info(dataset)
    checks.search(params, info["image_shape"], len(info["classes"]))
    # Experiments that DVC runs at once share a cache, and each finds there what the one before has measured.
    wait = (lambda text: print(text, flush=True)) if is_experiment() else None
    with step.only_search(cache, wait=wait), tracked(params, cache) as tracker:
        numbers = step.run(params, dataset, out, cache, devices=_sharing(params, dataset, cache / "sharing.json"),
                           tracker=tracker, tags={"git_revision": git_revision()}, watch=watch)
    print(f"search  {numbers['front']} of {numbers['evaluated']} candidates are on the front; hypervolume "
          f"{numbers['hypervolume']:.4f}", flush=True)


def _forecast(params: Params, dataset: Path) -> None:
    from parapet.cli.tables import show
    from parapet.data.info import read_info
    from parapet.forecast import forecast as step

    info = read_info(dataset)
    checks.search(params, info["image_shape"], len(info["classes"]))
    with tempfile.TemporaryDirectory() as folder:
        devices = _sharing(params, dataset, Path(folder) / "sharing.json")
    found = step.run(params, dataset, devices=devices)
    show(step.table(found))
    print(step.sentence(found), flush=True)


def _full_evaluation(params: Params, dataset: Path, search: Path, out: Path, cache: Path) -> None:
    from parapet.steps import full_evaluation as step

    with tracked(params, cache) as tracker:
        step.run(params, dataset, search, out, devices=_devices(params), cache=cache, tracker=tracker)


def _front(params: Params, out: Path) -> None:
    from parapet.steps import front as step

    step.check_place(out)
    numbers = step.run(params, out / "dataset", out / "search", out / "evaluation", out, runs=_runs(params, out))
    print(f"front  {numbers['front_size']} candidates; most robust {numbers['best_robust_accuracy']:.1%} against "
          f"{numbers['undefended_robust_accuracy']:.1%} of a net trained without attacks (test split, "
          f"{params.threat}): {out / 'front.json'}", flush=True)


def _runs(params: Params, out: Path) -> dict[str, Any] | None:
    from parapet.store.search_folder import SearchFolder
    from parapet.tracking import run_ids

    if not params.tracking.enabled:
        return None
    return run_ids(gateway().uri, params.tracking.experiment, SearchFolder(out / "search").search_id)


def _report(params: Params, out: Path, cache: Path) -> None:
    from parapet.steps import report as step

    with tracked(params, cache) as tracker:
        written = step.run(params, out, tracker=tracker, mlflow_ui=page())
    print(f"report  {written}", flush=True)
