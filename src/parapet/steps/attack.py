"""attack: evaluates a model on given images under an attack suite, with an audit. A command, not a pipeline step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parapet.attacks import Attack, audited_rows, examine, run_suite, transfer
from parapet.attacks.compositions import catalogue, named_suite
from parapet.attacks.inputs import Model, came_from_model, predict
from parapet.data.arrays import load_images
from parapet.disk.files import replacing, write_json
from parapet.errors import InputError, ParapetError, is_broken_device, is_of_the_machine
from parapet.models.foreign import load_any
from parapet.models.network import Network
from parapet.processes.pool import Task
from parapet.quoting import listed, words
from parapet.quoting import name as named
from parapet.redaction import redacted
from parapet.versions import ATTACK_VERSION

RECORD, STATE = "evaluation.json", "state"
_SURROGATE = "transfer"
_WORK = "parapet.steps.attack:work"


@dataclass(frozen=True)
class Request:
    """The model, the data and the settings of an evaluation; see `parapet attack --help`.

    `eps` is the perturbation radius in `norm`, for pixels in [0, 1]; `images` is the number of images, None for all.
    """

    model: str
    data: Path
    eps: float
    norm: str = "linf"
    split: str = "test"
    images: int | None = None
    suite: str = "standard"
    attacks: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    surrogates: tuple[str, ...] = ()
    batch_size: int = 256
    seed: int = 0
    device: str = "cpu"
    audit_images: int = 0
    trust: bool = False


def task(request: Request, out: Path, *, save_images: Path | None, threads: int | None, modules: Path) -> Task:
    """The task that calls `run` in a worker process, which can import the user's own code from the folder `modules`."""
    return Task("attack", _WORK, {"request": {**asdict(request), "data": str(request.data)}, "out": str(out),
                                  "save_images": save_images and str(save_images), "threads": threads,
                                  "modules": str(modules)},
                step="evaluation", about=redacted(request.model),
                advice="the same command resumes after the last finished batch; if the model's own code crashes, "
                "correct it, and if memory is short, lower --batch-size")


def _check_shape(name: str, model: Model, images: Tensor) -> None:
    """Raise InputError if a Parapet network was built for another image shape.

    A network with global pooling accepts other shapes, so the mismatch would go unnoticed.
    """
    if isinstance(model, Network) and tuple(images.shape[1:]) != tuple(model.image_shape):
        made, given = ("x".join(map(str, shape)) for shape in (model.image_shape, images.shape[1:]))
        raise InputError(f"{named(name)} was made for images of shape {made}, and these have {given}; give data of "
                         "that shape.")


def work(*, request: dict[str, Any], out: str, save_images: str | None, threads: int | None, modules: str, device: str,
         progress: Callable[[str, float], None]) -> dict[str, Any]:
    """Call `run` in the worker process with the arguments of `task`.

    Raises InputError where the model's own code raises an exception for a valid image.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if modules not in sys.path:
        sys.path.insert(0, modules)
    lists = {name: tuple(request[name]) for name in ("attacks", "also", "surrogates")}
    asked = Request(**{**request, **lists, "data": Path(request["data"]), "device": device})
    try:
        return run(asked, Path(out), save_images=Path(save_images) if save_images else None, progress=progress)
    except Exception as error:  # a model's own code may raise anything
        if isinstance(error, ParapetError) or is_of_the_machine(error) or is_broken_device(error) \
                or not came_from_model(error):
            raise
        raise InputError(f"{named(request['model'])} raised {type(error).__name__} ({words(error)}) for "
                         "images inside the ball; a model has to answer every image of its shape with pixels in "
                         "[0, 1], so attack the network behind the check that refuses them.") from error


def run(request: Request, out: Path, *, save_images: Path | None = None,
        progress: Callable[[str, float], None] = lambda text, share: None) -> dict[str, Any]:
    """Attack, write `out`/evaluation.json and return its content; `out`/state holds the results of finished batches.

    `save_images` is an .npz file for images, labels, adversarial images and predictions. The audit uses `audit_images`
    of the images; with 0 there is no audit. If the request limits the number of images, they are drawn at random,
    stratified by label, and the result records which ones. `progress` is called with (text, share in [0, 1]).
    """
    suite = chosen_suite(request)
    model = load_any(request.model, request.device, trust=request.trust)
    images, labels, drawn = load_images(request.data, split=request.split, limit=request.images, seed=request.seed,
                                        device=request.device)
    surrogates = [load_any(name, request.device, trust=request.trust) for name in request.surrogates]
    for name, one in zip((request.model, *request.surrogates), (model, *surrogates)):
        _check_shape(name, one, images)
    if surrogates:
        suite.append(Attack(_SURROGATE, transfer, {"surrogate": surrogates}))
    share = 0.5 if request.audit_images else 1.0
    record, adversarial = run_suite(
        model, images, labels, norm=request.norm, eps=request.eps, suite=suite, batch_size=request.batch_size,
        generator=torch.Generator().manual_seed(request.seed), state=out / STATE,
        progress=lambda name, done: progress(name, share * done))
    report = None
    if request.audit_images:
        rows = audited_rows(labels, request.audit_images, request.seed)
        record, adversarial, report = examine(
            model, images, labels, record, adversarial, rows, norm=request.norm, eps=request.eps, seed=request.seed,
            surrogates=surrogates, deep=True,
            loader=partial(load_any, request.model, request.device, trust=request.trust),
            progress=lambda name, done: progress(name, share + (1 - share) * done))
    result = {"schema_version": 2, "model": redacted(request.model), "data": redacted(str(request.data)),
              "split": request.split, "seed": request.seed, "batch_size": request.batch_size,
              "attack_version": ATTACK_VERSION, "torch": torch.__version__, "images": drawn.to_dict(),
              "evaluation": record, "audit": report}
    write_json(out / RECORD, result)
    if save_images:
        _save(save_images, model, images, labels, adversarial, request.batch_size)
    return result


def chosen_suite(request: Request) -> list[Attack]:
    """The attacks of the request, `also` before the suite. Raises InputError for unknown or repeated names."""
    suite = _named("--attacks", request.attacks, request.norm) if request.attacks else named_suite(request.suite)
    also = _named("--also", request.also, request.norm)
    if twice := {attack.name for attack in also} & {attack.name for attack in suite}:
        raise InputError(f"--also names {', '.join(sorted(twice))}, which the suite holds already; leave it out.")
    return [*also, *suite]


def _named(option: str, names: Sequence[str], norm: str) -> list[Attack]:
    known = catalogue(norm)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{option} names {listed(unknown)}; allowed for {norm}: {', '.join(known)}.")
    return [replace(known[name]) for name in names]


def _save(path: Path, model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, adversarial: Tensor,
          batch_size: int) -> None:
    if path.suffix != ".npz":
        raise InputError(f"--save-images {path} does not end in .npz.")
    arrays = {"images": images, "labels": labels, "adversarial": adversarial,
              "predictions": predict(model, adversarial, batch_size)}
    stored: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
    with replacing(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **stored)


