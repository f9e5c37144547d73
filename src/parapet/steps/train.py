"""train: trains one model from a named recipe. A command, not a pipeline step.

The folder of a run has train.json, the configuration and at the end the result; checkpoint.safetensors, written after
each epoch and deleted at the end; model.safetensors, the weights of the best epoch by robust validation accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from parapet.config import to_dict
from parapet.data.dataset import Dataset
from parapet.deployment.latency import processor
from parapet.disk import sealed
from parapet.errors import InputError
from parapet.models import build, save
from parapet.models.cost import count_flops, count_parameters
from parapet.processes.pool import Task
from parapet.quoting import name as named
from parapet.redaction import redacted
from parapet.store.results import CHECKPOINT, WEIGHTS
from parapet.training import TrainingFailed, TrainingRun, train
from parapet.training.checkpoint import peek
from parapet.training.recipes import NamedRecipe, load_recipe
from parapet.versions import TRAINING_VERSION

RECORD, _LOCK = "train.json", "train.lock"
_WORK = "parapet.steps.train:work"
# Version 2 added `digests`, the SHA-256 of the weights, and `checksum`.
SCHEMA_VERSION = 2
_NAMED_DIFFERENCES = 4


class Watcher:
    """Receives the progress of a run; the base class ignores it."""

    def goes_on(self, epoch: int) -> None:
        """The run resumes from a checkpoint of `epoch` finished epochs."""

    def found_damaged(self, problem: str) -> None:
        """A finished run is trained again, because its files have changed: `problem` says how."""

    def moved(self, done: float, text: str) -> None:
        """`done` is the number of finished epochs, with a fraction; `text` is the current work."""

    def finished_epoch(self, row: dict[str, Any]) -> None:
        """A row of the curves, with `epochs` and `images_per_second` (of training, without validation)."""


def task(recipe: NamedRecipe, name_or_path: str, changes: Sequence[str], data_folder: Path, out: Path, *, seed: int,
         threads: int | None) -> Task:
    """The task of a worker that calls `run` with `recipe`, which `load_recipe` made of `name_or_path` and `changes`."""
    return Task("train", _WORK, {"recipe": name_or_path, "changes": list(changes), "data": str(data_folder),
                                 "out": str(out), "seed": seed, "threads": threads},
                step="training", about=f"{recipe.name} ({recipe.genome})",
                advice="the same command goes on from the last checkpoint, and another network, for example with --set "
                "genome.width=8 or --set genome.backbone=plain, may go round it")


def work(*, recipe: str, changes: list[str], data: str, out: str, seed: int, threads: int | None, device: str,
         progress: Any) -> dict[str, Any]:
    """Call `run` in the child process with the arguments of `task`; reports the calls of a `Watcher` as
    {"goes_on": epoch}, {"damaged": problem} and {"epoch": row}."""
    if threads is not None:
        torch.set_num_threads(threads)

    class Reporter(Watcher):
        """Reports to the process that waits for the task."""

        def goes_on(self, epoch: int) -> None:
            progress.tell({"goes_on": epoch})

        def found_damaged(self, problem: str) -> None:
            progress.tell({"damaged": problem})

        def moved(self, done: float, text: str) -> None:
            progress(text, done)

        def finished_epoch(self, row: dict[str, Any]) -> None:
            progress.tell({"epoch": row})

    return run(load_recipe(recipe, changes), Path(data), Path(out), seed=seed, device=device, watcher=Reporter())


def run(recipe: NamedRecipe, data_folder: Path, out: Path, *, seed: int = 0, device: str = "cpu",
        watcher: Watcher | None = None) -> dict[str, Any]:
    """Train into the folder `out` and return the content of train.json; a finished run is not repeated.

    Resumes from the checkpoint of an earlier attempt. Raises InputError where `out` holds another run or where network
    or batch do not fit the data; TrainingFailed where the loss is not finite: model.safetensors then has the weights of
    the best epoch, if there was one.
    """
    watcher, data = watcher or Watcher(), Dataset.open(data_folder)
    recipe.threat.check_image(*data.image_shape)
    identity = _identity(recipe, seed) | {"fingerprint": data.fingerprint}
    with _only_run(out):
        earlier = check_folder(out, identity)
        if earlier and earlier["status"] == "done":
            if (problem := sealed.problem(out, earlier["digests"])) is None:
                (out / CHECKPOINT).unlink(missing_ok=True)  # left by a process that was killed at the very end
                return earlier
            watcher.found_damaged(problem)
        result = {"schema_version": SCHEMA_VERSION, "status": "running", "reason": None, "run": identity,
                  "digests": {},
                  "description": recipe.description, "data": {"name": data.name, "folder": redacted(str(data_folder))},
                  "training_images": data.images["train"], "torch": torch.__version__, "hardware": _hardware(device)}
        return _train(recipe, data, out, seed, device, watcher, result)


def check_folder(out: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The content of this run's train.json, None where there is none. Raises InputError where `out` has another run.

    Only the keys of `identity` are compared, which has no fingerprint before the data are prepared.
    """
    path, advice = out / RECORD, "give another folder with --out"
    try:
        earlier = sealed.look(path)
        sealed.check_fields(earlier, {"schema_version": int, "digests": dict})
        there = {**earlier["run"]}
        if earlier["schema_version"] != SCHEMA_VERSION or not isinstance(earlier["status"], str):
            raise ValueError
    except FileNotFoundError:
        if found := next((name for name in (WEIGHTS, CHECKPOINT) if (out / name).exists()), None):
            raise InputError(f"{out} holds {found} and no {RECORD}, so it is not from this command; {advice}."
                             ) from None
        return None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged or from another version of Parapet; {advice}, or delete it.") from None
    differences = _differences({key: there.get(key) for key in identity}, identity)
    if differences:
        more = len(differences) - _NAMED_DIFFERENCES
        rest = f" and {more} more" if more > 0 else ""
        raise InputError(f"{out} holds another run: it differs in {', '.join(differences[:_NAMED_DIFFERENCES])}{rest}; "
                         f"{advice}.")
    return earlier


def check_before_data(recipe: NamedRecipe, out: Path, seed: int) -> None:
    """Raise InputError where `out` has another run; needs no prepared data, and does not compare their fingerprint."""
    check_folder(out, _identity(recipe, seed))


def _train(recipe: NamedRecipe, data: Dataset, out: Path, seed: int, device: str, watcher: Watcher,
           result: dict[str, Any]) -> dict[str, Any]:
    config, checkpoint = recipe.training, out / CHECKPOINT
    training_run = TrainingRun.of(recipe.genome, data, config=config, threat=recipe.threat, seed=seed, device=device,
                                  checkpoint=checkpoint)
    validation_images = len(training_run.validation)
    if (finished := peek(checkpoint)[0].get("epoch", 0)) > 0:
        watcher.goes_on(finished)
    clock = _Clock(finished, training_run.batches, -(-validation_images // config.batch_size), config.batch_size,
                   watcher)

    begun = False

    def tell(epoch: int, epochs: int, row: dict[str, Any]) -> None:
        nonlocal begun
        # Only after the first epoch, when all input has been checked, so that wrong input leaves no record. The result
        # of an earlier attempt is replaced.
        if not begun:
            sealed.write(out / RECORD, result)
            begun = True
        watcher.finished_epoch({**row, "epochs": epochs, "images_per_second": clock.images_per_second})
        clock.next_epoch(epoch)

    try:
        trained = train(replace(training_run, progress=tell, turn=clock.turn, auxiliary_turn=clock.auxiliary_turn))
    except TrainingFailed as error:
        raise TrainingFailed(_restored(recipe, data, out, error, result)) from None
    network = trained.network.cpu()
    best = trained.curves[trained.best_epoch - 1]
    result |= {
        "status": "done", "best_epoch": trained.best_epoch, "seconds": trained.seconds, "curves": trained.curves,
        "validation": {"n": validation_images, "attack": f"PGD-{config.validation_steps}",
                       "clean_accuracy": best["validation_clean_accuracy"],
                       "robust_accuracy": best["validation_robust_accuracy"]},
        "training_flops": trained.training_flops, "flops": count_flops(network, network.image_shape),
        "params": count_parameters(network), "collapses": trained.collapses}
    save(network, out / WEIGHTS)
    written = sealed.write(out / RECORD, {**result, "digests": sealed.digests(out, [WEIGHTS])})
    checkpoint.unlink(missing_ok=True)
    return written


def _restored(recipe: NamedRecipe, data: Dataset, out: Path, error: TrainingFailed, result: dict[str, Any]) -> str:
    """Save the best epoch of a failed run; returns a sentence about the failure and what was saved."""
    reason = str(error)
    numbers, best = peek(out / CHECKPOINT)
    if not best:
        return f"{reason}; there is no epoch to go back to, so lower genome.learning_rate or clip gradients."
    network = build(recipe.genome, data.image_shape, len(data.classes), generator=torch.Generator())
    network.load_state_dict(best)
    save(network, out / WEIGHTS)
    sealed.write(out / RECORD, {**result, "status": "failed", "reason": reason, "best_epoch": numbers["best_epoch"],
                                "curves": numbers["curves"], "digests": sealed.digests(out, [WEIGHTS])})
    return (f"{reason}; the weights of epoch {numbers['best_epoch']} are restored to {out / WEIGHTS}, and for another "
            "try lower genome.learning_rate and give another folder with --out.")


class _Clock:
    """Counts the batches of an epoch, first of training and then of validation, and times those of training."""

    def __init__(self, epoch: int, batches: int, validation_batches: int, batch_size: int, watcher: Watcher) -> None:
        self.batches, self.expected, self.batch_size = batches, batches + validation_batches, batch_size
        self.watcher, self.images_per_second = watcher, 0.0
        self.next_epoch(epoch)

    def next_epoch(self, epoch: int) -> None:
        self.epoch, self.turns, self.started = epoch, 0, time.monotonic()

    def auxiliary_turn(self, name: str) -> Callable[[], AbstractContextManager[object]]:
        """The `turn` for training the auxiliary model `name`."""
        turns = 0

        @contextmanager
        def turn() -> Iterator[None]:
            nonlocal turns
            yield
            epoch, batch = divmod(turns, self.batches)
            turns += 1
            self.watcher.moved(self.epoch, f"the {name} first, epoch {epoch + 1}, batch {batch + 1} of {self.batches}")
        return turn

    @contextmanager
    def turn(self) -> Iterator[None]:
        if self.turns == 0:
            self.started = time.monotonic()
        yield
        self.turns += 1
        if self.turns <= self.batches:
            seconds = max(1e-9, time.monotonic() - self.started)
            self.images_per_second = self.turns * self.batch_size / seconds
        text = f"epoch {self.epoch + 1}, " + (f"batch {self.turns} of {self.batches}" if self.turns <= self.batches
                                              else "validation")
        self.watcher.moved(self.epoch + min(1.0, self.turns / self.expected), text)


def _identity(recipe: NamedRecipe, seed: int) -> dict[str, Any]:
    return {"recipe": redacted(recipe.name), "genome": recipe.genome.to_dict(), "threat": to_dict(recipe.threat),
            "training": to_dict(recipe.training), "seed": seed, "training_version": TRAINING_VERSION}


def _differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys whose values differ, each with its sections and both values."""
    found = []
    for key, value in here.items():
        other = there.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            found += _differences(other, value, f"{prefix}{key}.")
        elif value != other:
            shown = [str(item)[:12] if key == "fingerprint" else named(item) for item in (other, value)]
            found.append(f"{prefix}{key} ({shown[0]} there, {shown[1]} here)")
    return found


def _hardware(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} {'threads' if threads > 1 else 'thread'}"


@contextmanager
def _only_run(out: Path) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / _LOCK)
    try:
        lock.acquire(timeout=2)  # a run that was just killed may still be exiting
    except Timeout:
        raise InputError(f"a training is already running in {out}; wait for it, stop it, or give another folder with "
                         "--out.") from None
    try:
        yield
    finally:
        lock.release()

