"""Check 13: the same model seen otherwise answers alike: as it is served, with changes that nobody sees, and anew.

A model that behaves otherwise while it is examined gives itself away where the examination is another one: a batch of
one image, pixels of 8 bits, a frame of zeros, a process in which it has never seen these images.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from multiprocessing.connection import Connection
from pickle import PicklingError  # nosec B403
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from parapet.attacks.adaptive import adapted, restart_draws
from parapet.attacks.audit.scene import Scene, audited_rows
from parapet.attacks.audit.verdicts import FAIL_GAP, SIGNIFICANCE, Result, gap, mean, result
from parapet.attacks.balls import ball, widest
from parapet.attacks.inputs import Model, answers, ask, frozen, in_halves, predict
from parapet.attacks.intervals import sign_test
from parapet.attacks.noise import derived
from parapet.attacks.pgd import pgd
from parapet.attacks.square import square
from parapet.errors import ParapetError, ProcessDied, is_of_the_machine
from parapet.quoting import words

# Steps between black and white that 8 bits hold.
LEVELS = 255
# Where no gradient is recorded an undefended network falls to so many queries.
_QUERIES = 300


class _Rounded(torch.autograd.Function):
    """Pixels of 8 bits, with the gradient of the identity (BPDA, Athalye et al. 2018)."""

    @staticmethod
    def forward(ctx: object, images: Tensor) -> Tensor:
        return torch.round(images * LEVELS) / LEVELS

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _same(images: Tensor) -> Tensor:
    return images


def _rounded(images: Tensor) -> Tensor:
    return _Rounded.apply(images)


def _cornered(images: Tensor) -> Tensor:
    """One grey level more in the upper left corner, or less where there is none."""
    change = torch.zeros_like(images)
    corner = images[:, :, 0, 0].detach()
    change[:, :, 0, 0] = torch.where(corner <= 1 - 1 / LEVELS, 1.0, -1.0) / LEVELS
    return images + change


def _unframed(images: Tensor) -> Tensor:
    inner = torch.zeros_like(images)
    inner[:, :, 1:-1, 1:-1] = 1
    return images * inner


def _nudged(images: Tensor) -> Tensor:
    """A third of a grey level in the middle."""
    change = torch.zeros_like(images)
    row, column = images.shape[2] // 2, images.shape[3] // 2
    middle = images[:, :, row, column].detach()
    change[:, :, row, column] = torch.where(middle <= 0.5, 1.0, -1.0) / (3 * LEVELS)
    return images + change


def _together(model: Model) -> Model:
    return lambda images: ask(model, images)


def _alone(model: Model) -> Model:
    return lambda images: torch.cat([ask(model, images[place:place + 1]) for place in range(len(images))])


def _backwards(model: Model) -> Model:
    return lambda images: ask(model, images.flip(0)).flip(0)


def _channels_last(model: Model) -> Model:
    # Copied by hand, so that the copy has this order of memory.
    return lambda images: model(images.clone(memory_format=torch.channels_last))


def _strided(model: Model) -> Model:
    # A part of a wider image.
    return lambda images: model(torch.cat([images, images], dim=3)[..., :images.shape[3]])


def _double(model: Model) -> Model:
    """The images in float64, and the model's parameters too where it has any."""
    if not isinstance(model, nn.Module):
        return lambda images: ask(model, images.double()).to(images.dtype)
    twin = deepcopy(model).double()
    return lambda images: ask(twin, images.double()).to(images.dtype)


def _served(model: Model) -> Model:
    """As a service may ask, in `torch.inference_mode`, where no gradient is recorded. A module is copied where it can
    be: what it made and kept in that mode could not be used outside of it."""
    try:
        served = deepcopy(model) if isinstance(model, nn.Module) else model
    except Exception:  # whatever it holds that cannot be copied
        served = model

    def asked(images: Tensor) -> Tensor:
        given = images.clone()  # made out here, so that a model that keeps it may use it later
        with torch.inference_mode():
            logits = served(given)
        return logits.clone()
    return asked


def _served_alone(model: Model) -> Model:
    return _alone(_served(model))


class Variation(NamedTuple):
    """What is done to each image, how the model is asked, by how many grey levels the change moves a pixel at most
    where the attack has to leave room for it inside the ball, and the attack (None: PGD on the margin)."""

    change: Callable[[Tensor], Tensor]
    asked: Callable[[Model], Model]
    room: float = 0.0
    attack: Callable[..., Tensor] | None = None


VARIATIONS = {
    "as before": Variation(_same, _together),
    "one at a time": Variation(_same, _alone),
    "in another order": Variation(_same, _backwards),
    "channels last": Variation(_same, _channels_last),
    "not contiguous": Variation(_same, _strided),
    "double precision": Variation(_same, _double),
    "in inference mode": Variation(_same, _served, attack=partial(square, queries=_QUERIES)),
    "as served": Variation(_rounded, _served_alone, 0.5, partial(square, queries=_QUERIES)),
    "8-bit pixels": Variation(_rounded, _together, 0.5),
    "8-bit pixels, one at a time": Variation(_rounded, _alone, 0.5),
    "one grey level in a corner": Variation(_cornered, _together),
    "frame zeroed": Variation(_unframed, _together),
    "a pixel off the grid": Variation(_nudged, _together),
}


# Memory, precision and mode are the program's; the other variations are ordinary images that any model has to answer.
_MAY_REFUSE = ("channels last", "not contiguous", "double precision", "in inference mode")
# The first is what the others are compared with; of the second the check `deployed` compares the answers.
_NOT_COMPARED = ("as before", "as served")


def variations(scene: Scene) -> Result:
    """The attack started from each harmless variation breaks what it breaks without: gaps are of the same images."""
    rows = audited_rows(scene.labels, scene.budget.varied_images, seed=0)
    plain = stands_as(scene, rows, VARIATIONS["as before"])
    numbers: dict[str, Any] = {"images": len(rows), "as_before": mean(plain)}
    found, refused = [], []
    for name, variation in VARIATIONS.items():
        if name in _NOT_COMPARED:
            continue
        try:
            stands = stands_as(scene, rows, variation)
        except Exception as error:  # a model's own code may raise anything where it is asked in an unusual way
            if isinstance(error, ParapetError) or (is_of_the_machine(error) and name not in _MAY_REFUSE):
                raise
            numbers[name] = None
            refused.append(name)
            continue
        p_value = sign_test(int((plain & ~stands).sum()), int((~plain & stands).sum()))
        numbers[name] = mean(stands)
        # As many questions are asked of the same images.
        if mean(plain) - mean(stands) > FAIL_GAP and p_value < SIGNIFICANCE / (len(VARIATIONS) - len(_NOT_COMPARED)):
            found.append(name)
    if found:
        return result("variations", "fail", numbers, f"The model falls where it is seen otherwise ({', '.join(found)}) "
                      "and stands where it is examined, so it behaves otherwise while it is examined; do not believe "
                      "its numbers.")
    if odd := [name for name in refused if name not in _MAY_REFUSE]:
        return result("variations", "warn", numbers, f"The model refuses to answer where it is seen otherwise "
                      f"({', '.join(odd)}), though these are ordinary images; find out why, for it cannot be attacked "
                      "there.")
    but = f"; it cannot be asked this way: {', '.join(refused)}" if refused else ""
    return result("variations", "pass", numbers, "The model falls no more where it is seen otherwise than where it is "
                  f"examined{but}.")


def copy(scene: Scene) -> Result:
    """A copy in another process, which is asked about other images first and never about the clean ones, stands as
    much as this one does."""
    if scene.loader is None:
        return result("copy", "pass", {"attacked": 0}, "Not looked at, because the model was given and not a way to "
                      "load it; a memory that it may have is not found out here.")
    rows = audited_rows(scene.labels, scene.budget.copied_images, seed=0)
    after = copy_stands(scene, rows)
    if isinstance(after, str):
        return result("copy", "warn", {"attacked": 0}, "The model cannot be loaded and asked again in another process "
                      f"({after}); a memory that it may have is not found out.")
    before = scene.pgd_margin[rows]
    numbers = {"attacked": len(rows), "this_one": mean(before), "copy": mean(after)}
    return gap("copy", before, after, numbers, "A fresh copy that has not seen these images before falls "
               "where this one stands, so the model remembers what it is asked; do not believe its numbers.",
               warn=FAIL_GAP)


def copy_stands(scene: Scene, rows: Tensor) -> Tensor | str:
    """Which of the images `rows` a copy in another process gets right when it is attacked there, bool (n,); why none
    could be asked, in a few words, where that is so. What the copy gets wrong counts as broken."""
    given = (scene.images[rows].cpu().numpy(), scene.labels[rows].cpu().numpy(), scene.seeds[rows].cpu().numpy())
    kind, told = _in_another_process(scene.loader, given, scene.norm, scene.eps, scene.budget.pgd_steps,
                                     str(scene.images.device), torch.get_num_threads())
    if kind == "failed":
        return str(told)
    stands = torch.from_numpy(told[1]).to(rows.device)
    scene.condemn(rows, torch.from_numpy(told[0]).to(scene.images), ~stands)
    return stands


def _in_another_process(*arguments: Any) -> tuple[str, Any]:
    """("done", what `_attack_anew` returns) or ("failed", why, in a few words). Raises ProcessDied where it died."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, *arguments), daemon=True)
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


def _serve(answer: Connection, *arguments: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer.send(("done", _attack_anew(*arguments)))
    except Exception as error:  # a model's own code may raise anything
        reason = f"{type(error).__name__}: {words(error)}".rstrip(".: ")
        answer.send(("died" if is_of_the_machine(error) else "failed", reason))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def with_room(scene: Scene, room: float) -> float:
    """The radius that is left where each pixel may be moved by `room` grey levels afterwards."""
    return max(scene.eps - 1.001 * room * widest(scene.images, scene.norm) / LEVELS, 0.5 * scene.eps)


def stands_as(scene: Scene, rows: Tensor, variation: Variation, attack: Callable[..., Tensor] | None = None) -> Tensor:
    """Which of the images `rows` the model gets right, asked and attacked under `variation`; bool (n,).

    The attack is that of the variation, or another one. What the model gets wrong there counts as broken, also where it
    gets it right in another company.
    """
    asked, images, labels = variation.asked(scene.model), scene.images[rows], scene.labels[rows]

    def model(points: Tensor) -> Tensor:
        return asked(variation.change(points))
    restart_draws(scene.model, 81)
    with frozen(scene.model):
        chosen = attack or variation.attack or partial(pgd, steps=scene.budget.pgd_steps, loss="margin")

        def run(images: Tensor, labels: Tensor, seeds: Tensor) -> Tensor:
            return chosen(model, images, labels, eps=with_room(scene, variation.room), norm=scene.norm,
                          early_stop=True, generator=seeds)
        points = in_halves(run, images, labels, derived(scene.seeds[rows], 81))
        ends = ball(images, scene.eps, scene.norm).project(variation.change(points))
        stands = predict(asked, ends) == labels
    scene.condemn(rows, ends, ~stands)
    return stands


def _attack_anew(loader: Callable[[], Model], given: tuple[np.ndarray, np.ndarray, np.ndarray], norm: str, eps: float,
                 steps: int, device: str, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """(points, which the copy gets right) of an attack on what `loader` loads, in a process of its own."""
    torch.set_num_threads(threads)
    images, labels, seeds = (torch.from_numpy(part).to(device) for part in given)
    model = adapted(loader())
    with frozen(model):
        answers(model, images.flip(3))  # what it remembers first is something else
        points = pgd(model, images, labels, eps=eps, norm=norm, steps=steps, loss="margin", early_stop=True,
                     generator=derived(seeds, 82))
        return points.cpu().numpy(), (predict(model, points) == labels).cpu().numpy()
