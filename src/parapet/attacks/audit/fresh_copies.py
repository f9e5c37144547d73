"""The check of fresh copies: a copy of the model in another process, without history, is as robust as the model itself.

A model that remembers its queries can protect the images of an evaluation. A fresh copy of it cannot.
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
from parapet.attacks.audit.context import AuditContext
from parapet.attacks.audit.side_effects import side_effect_of
from parapet.attacks.audit.verdicts import FAIL_GAP, Result, judge_gap, mean, result
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, answers, frozen, predict
from parapet.attacks.noise import derived
from parapet.catalogue import plugins
from parapet.errors import ProcessDied, is_of_the_machine
from parapet.quoting import words


class Copies(NamedTuple):
    """Which images (m,) all copies classify correctly, and the side effect of a copy while it answers ("" if none)."""

    stands: Tensor
    side_effect: str


def fresh_copy(context: AuditContext) -> Result:
    """A copy that has never seen the clean images is as robust as this model: one that is attacked itself, and ones
    whose first query is a point that an attack has tried on this model."""
    if context.loader is None:
        return result("copy", "pass", {"attacked": 0}, "Not tested, because the audit was given the model without a "
                      "way to load it again; a model that remembers its queries would not be detected.")
    rows, known = context.copied_rows, context.standing[context.copied_rows]
    points, stands = _attack(context.model, context.images[rows], context.labels[rows], context.norm, context.eps,
                             context.budget.pgd_steps, context.seeds[rows])
    after = attack_copies(context, rows, [points, *context.tried])
    if isinstance(after, str):
        return result("copy", "warn", {"attacked": 0}, "The model cannot be loaded and queried again in another "
                      f"process ({after}), so a model that remembers its queries would not be detected; make it "
                      "loadable.")
    numbers = {"attacked": len(rows), "points_shown": len(context.tried) + 1, "this_one": mean(known & stands),
               "copy": mean(known & after.stands)}
    if after.side_effect:
        return result("copy", "fail", numbers, f"While it answers, the model {after.side_effect}, through which copies "
                      "of it could share what they were asked, so a model that remembers its queries would not be "
                      "detected; switch that off, and audit it again.")
    return judge_gap("copy", known & stands, known & after.stands, numbers, "A fresh copy that has not seen "
                     "these images before is less robust than this model, so the model remembers its queries; do not "
                     "trust its robust accuracy.", warn=FAIL_GAP)


def attack_copies(context: AuditContext, rows: Tensor, shown: Sequence[Tensor] | None = None) -> Copies | str:
    """Attack one copy in another process on the images `rows` (m,), and show a further copy each of the `shown` points
    (m, C, H, W), by default those that PGD reaches on the model itself.

    Returns which images all copies classify correctly, or, in a few words, why no copy could be queried. What a copy
    misclassifies counts as broken.
    """
    images, labels, seeds = context.images[rows], context.labels[rows], context.seeds[rows]
    setting = context.norm, context.eps, context.budget.pgd_steps
    if shown is None:
        shown = [_attack(context.model, images, labels, *setting, seeds)[0]]
    given = [part.cpu().numpy() for part in (images, labels, seeds)]
    kind, answer = _run_in_child(context.loader, given, [points.cpu().numpy() for points in shown], *setting,
                                 str(context.images.device), torch.get_num_threads())
    if kind == "failed":
        return str(answer)
    stands = torch.from_numpy(answer[1]).to(rows.device)
    context.mark_broken(rows, torch.from_numpy(answer[0]).to(context.images), ~stands)
    return Copies(stands, answer[2])


def _attack(model: Model, images: Tensor, labels: Tensor, norm: str, eps: float, steps: int,
            seeds: Tensor) -> tuple[Tensor, Tensor]:
    """(end points of PGD, which images the model classifies correctly there, bool (n,))."""
    with frozen(model):
        points = pgd(model, images, labels, eps=eps, norm=norm, steps=steps, loss="margin", early_stop=True,
                     generator=derived(seeds, 82))
        return points, predict(model, points) == labels


def _attack_fresh(loader: Callable[[], Model], given: Sequence[np.ndarray], shown: Sequence[np.ndarray], norm: str,
                  eps: float, steps: int, device: str, threads: int) -> tuple[np.ndarray, np.ndarray, str]:
    """(points, which of them the copies classify correctly, side effect of a copy), in the child process."""
    torch.set_num_threads(threads)
    images, labels, seeds = (torch.from_numpy(part).to(device) for part in given)
    model = adapted(loader())
    with frozen(model):
        answers(model, images.flip(3))  # its first query are other images than those of the evaluation
        # A second query of the same size: compiled code and caches exist by now and are no side effect of it.
        side_effect = side_effect_of(partial(answers, model, images.flip(2)), counted=not images.is_cuda)
    points, stands = _attack(model, images, labels, norm, eps, steps, seeds)
    for tried in shown:
        others, fresh = torch.from_numpy(tried).to(device), adapted(loader())
        with frozen(fresh):
            fell = stands & (predict(fresh, others) != labels)
        points[fell], stands = others[fell], stands & ~fell
    return points.cpu().numpy(), stands.cpu().numpy(), side_effect


def _run_in_child(*arguments: Any) -> tuple[str, Any]:
    """("done", what `_attack_fresh` returns) or ("failed", why, in a few words). Raises ProcessDied if it died."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="parapet-copy-", ignore_cleanup_errors=True) as folder:
        process = context.Process(target=_child_main, args=(theirs, folder, plugins.inheritance(), *arguments),
                                  daemon=True)
        try:
            process.start()
        except (AttributeError, TypeError, PicklingError) as error:  # what pickle raises for what it cannot pickle
            return "failed", f"it cannot be handed over: {words(error)}".rstrip(".: ")
        theirs.close()
        try:
            kind, answer = ours.recv()
        except EOFError:
            kind, answer = "died", "without a message"
        finally:
            process.kill()  # also if the wait was interrupted
            process.join()
    if kind == "died":
        raise ProcessDied(f"the process in which a copy of the model was attacked died ({answer}); run the same "
                          "command again, and give it more memory if it dies again.")
    return kind, answer


def _child_main(answer: Connection, folder: str, known: dict[str, list[str]], *arguments: Any) -> None:
    os.environ["TMPDIR"] = tempfile.tempdir = folder  # an empty folder: no files of another copy
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        plugins.inherit(known)
        answer.send(("done", _attack_fresh(*arguments)))
    except Exception as error:  # a model's own code may raise anything
        reason = f"{type(error).__name__}: {words(error)}".rstrip(".: ")
        answer.send(("died" if is_of_the_machine(error) else "failed", reason))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
