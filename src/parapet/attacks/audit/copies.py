"""A copy of the model in another process, which has been asked nothing yet, stands as much as the one that is examined.

Models that remember what they are asked can guard the images of an evaluation, and give themselves away here.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pickle import PicklingError  # nosec B403
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from parapet.attacks.adaptive import adapted
from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.verdicts import FAIL_GAP, Result, gap, mean, result
from parapet.attacks.audit.writes import writes
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, answers, frozen, predict
from parapet.attacks.noise import derived
from parapet.catalogue import plugins
from parapet.errors import ProcessDied, is_of_the_machine
from parapet.quoting import words


class Struck(NamedTuple):
    """`points` (n, C, H, W) at which a copy was asked, and which of the images it gets right there, bool (n,)."""

    points: Tensor
    stands: Tensor


class Copies(NamedTuple):
    """Which images (m,) all copies get right, and what a copy does outside of its process while it answers ("")."""

    stands: Tensor
    writes: str


def copy(scene: Scene) -> Result:
    """A copy that is asked about other images first and never about the clean ones stands as much as this one does,
    and so does one whose first question is a point that an attack has tried on this one."""
    if scene.loader is None:
        return result("copy", "pass", {"attacked": 0}, "Not looked at, because the model was given and not a way to "
                      "load it; a memory that it may have is not found out here.")
    rows, known = scene.copied, scene.standing[scene.copied]
    before = _strike(scene.model, scene.images[rows], scene.labels[rows], scene.norm, scene.eps,
                     scene.budget.pgd_steps, scene.seeds[rows])
    after = copy_stands(scene, rows, [before.points, *scene.tried])
    if isinstance(after, str):
        return result("copy", "warn", {"attacked": 0}, "The model cannot be loaded and asked again in another process "
                      f"({after}); a memory that it may have is not found out.")
    numbers = {"attacked": len(rows), "points_shown": len(scene.tried) + 1, "this_one": mean(known & before.stands),
               "copy": mean(known & after.stands)}
    if after.writes:
        return result("copy", "fail", numbers, f"While it answers, the model {after.writes}, so copies of it can share "
                      "what they were asked, and no examination tells it from a model that remembers; switch that off, "
                      "and examine it again.")
    return gap("copy", known & before.stands, known & after.stands, numbers, "A fresh copy that has not seen these "
               "images before falls where this one stands, so the model remembers what it is asked; do not believe "
               "its numbers.", warn=FAIL_GAP)


def copy_stands(scene: Scene, rows: Tensor, shown: Sequence[Tensor] | None = None) -> Copies | str:
    """Which of the images `rows` (m,) copies in another process get right: one when it is attacked there, and a new one
    for each of the `shown` points (m, C, H, W), by default those that PGD reaches on the model itself. Why none could
    be asked, in a few words, where that is so. What a copy gets wrong counts as broken."""
    images, labels, seeds = scene.images[rows], scene.labels[rows], scene.seeds[rows]
    setting = scene.norm, scene.eps, scene.budget.pgd_steps
    if shown is None:
        shown = [_strike(scene.model, images, labels, *setting, seeds).points]
    given = [part.cpu().numpy() for part in (images, labels, seeds)]
    kind, told = _in_another_process(scene.loader, given, [points.cpu().numpy() for points in shown], *setting,
                                     str(scene.images.device), torch.get_num_threads())
    if kind == "failed":
        return str(told)
    stands = torch.from_numpy(told[1]).to(rows.device)
    scene.condemn(rows, torch.from_numpy(told[0]).to(scene.images), ~stands)
    return Copies(stands, told[2])


def _strike(model: Model, images: Tensor, labels: Tensor, norm: str, eps: float, steps: int, seeds: Tensor) -> Struck:
    with frozen(model):
        points = pgd(model, images, labels, eps=eps, norm=norm, steps=steps, loss="margin", early_stop=True,
                     generator=derived(seeds, 82))
        return Struck(points, predict(model, points) == labels)


def _struck_anew(loader: Callable[[], Model], given: Sequence[np.ndarray], shown: Sequence[np.ndarray], norm: str,
                 eps: float, steps: int, device: str, threads: int) -> tuple[np.ndarray, np.ndarray, str]:
    """(points, which the copies get right, what one does outside) of what `loader` loads, in a process of its own."""
    torch.set_num_threads(threads)
    images, labels, seeds = (torch.from_numpy(part).to(device) for part in given)
    model = adapted(loader())
    with frozen(model):
        answers(model, images.flip(3))  # what it remembers first is something else
        # Asked for as many images once more: what is compiled or kept for them is there by now.
        outside = writes(partial(answers, model, images.flip(2)), counted=not images.is_cuda)
    points, stands = _strike(model, images, labels, norm, eps, steps, seeds)
    for tried in shown:
        others, fresh = torch.from_numpy(tried).to(device), adapted(loader())
        with frozen(fresh):
            fell = stands & (predict(fresh, others) != labels)
        points[fell], stands = others[fell], stands & ~fell
    return points.cpu().numpy(), stands.cpu().numpy(), outside


def _in_another_process(*arguments: Any) -> tuple[str, Any]:
    """("done", what `_struck_anew` returns) or ("failed", why, in a few words). Raises ProcessDied where it died."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="parapet-copy-", ignore_cleanup_errors=True) as folder:
        process = context.Process(target=_serve, args=(theirs, folder, plugins.inheritance(), *arguments), daemon=True)
        try:
            process.start()
        except (AttributeError, TypeError, PicklingError) as error:  # what pickle raises for what it cannot take
            return "failed", f"it cannot be handed over: {words(error)}".rstrip(".: ")
        theirs.close()
        try:
            kind, told = ours.recv()
        except EOFError:
            kind, told = "died", "it said nothing"
        finally:
            process.kill()  # also where the wait was interrupted
            process.join()
    if kind == "died":
        raise ProcessDied(f"the process in which a copy of the model was attacked died ({told}); run the same command "
                          "again, and give it more memory if it dies again.")
    return kind, told


def _serve(answer: Connection, folder: str, known: dict[str, list[str]], *arguments: Any) -> None:
    os.environ["TMPDIR"] = tempfile.tempdir = folder  # so that it has nothing that another one has left there
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        plugins.inherit(known)
        answer.send(("done", _struck_anew(*arguments)))
    except Exception as error:  # a model's own code may raise anything
        reason = f"{type(error).__name__}: {words(error)}".rstrip(".: ")
        answer.send(("died" if is_of_the_machine(error) else "failed", reason))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
