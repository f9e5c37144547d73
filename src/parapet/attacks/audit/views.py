"""Ways in which the same model is seen: changes of an image that nobody sees, and ways of asking."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from parapet.attacks.audit.scene import Scene
from parapet.attacks.balls import ball
from parapet.attacks.inputs import Model, answers, ask, frozen, predict
from parapet.attacks.noise import derived, uniform
from parapet.attacks.pgd import pgd
from parapet.attacks.square import square

# Steps between black and white that 8 bits hold.
LEVELS = 255
# Where no gradient is recorded an undefended network falls to so many queries.
_QUERIES = 300
# What PGD and Square may spend where the label and its gradient may be two networks' own.
_STEPS, _FEW_QUERIES = 40, 100
# How the names of variations begin that have a number of images at their end.
IN_BATCHES = "in batches of "
# Numbers of few bits change every answer a little; another model changes it by more than this share of the spread.
_CHANGED = 0.2


class _StraightThrough(torch.autograd.Function):
    """What `change` makes of the images, with the gradient of the identity (BPDA, Athalye et al. 2018)."""

    @staticmethod
    def forward(ctx: object, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        return change(images)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _same(images: Tensor) -> Tensor:
    return images


def _rounded(images: Tensor) -> Tensor:
    return _StraightThrough.apply(images, lambda images: torch.round(images * LEVELS) / LEVELS)


def _of_few_bits(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda images: _StraightThrough.apply(images, lambda images: images.to(dtype).to(images.dtype))


def _grey(images: Tensor) -> Tensor:
    return images.mean(1, keepdim=True).expand_as(images)


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


def _in(dtype: torch.dtype) -> Callable[[Model], Model]:
    """The images in another precision, and the model's parameters too where it has any."""
    def way(model: Model) -> Model:
        twin = model
        if isinstance(model, nn.Module):
            twin = deepcopy(model).to(dtype)
            keeping: list[Any] = [module for module in twin.modules() if hasattr(module, "remembers")]
            for module in keeping:
                module.remembers = False  # what it kept is of single precision
        return lambda images: ask(twin, images.to(dtype)).to(images.dtype)
    return way


def _mixed(model: Model) -> Model:
    """In mixed precision, as a service may ask whose machine is fast at it."""
    def asked(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return ask(model, images).to(images.dtype)
    return asked


def _in_batches_of(size: int) -> Callable[[Model], Model]:
    """In full batches of so many; the images come again and again until the last one is full."""
    def asked(model: Model, images: Tensor) -> Tensor:
        rows = torch.arange(-(-len(images) // size) * size, device=images.device) % len(images)
        return torch.cat([ask(model, part) for part in images[rows].split(size)])[:len(images)]
    return lambda model: partial(asked, model)


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


def _always(scene: Scene, rows: Tensor, variation: Variation) -> bool:
    return True


def _of_grey_images(scene: Scene, rows: Tensor, variation: Variation) -> bool:
    images = scene.images[rows]
    return images.shape[1] > 1 and torch.equal(images, images[:, :1].expand_as(images))


def _answers_change(scene: Scene, rows: Tensor, variation: Variation) -> bool:
    """Whether answers inside the ball become others than numbers of few bits make of them."""
    noise = uniform(derived(scene.seeds[rows], 83), scene.images.shape[1:])
    points = ball(scene.images[rows], scene.eps, scene.norm).start(noise)
    with frozen(scene.model), torch.no_grad():
        logits = answers(scene.model, points)
        change = float((variation.asked(scene.model)(points) - logits).abs().amax())
    return not change <= _CHANGED * float(logits.std())


def _both(model: Model, images: Tensor, labels: Tensor, *, generator: Tensor, **options: Any) -> Tensor:
    """PGD, and Square on what it leaves: what is shown there may be another network's answer, and its gradient too."""
    points = pgd(model, images, labels, steps=_STEPS, loss="margin", generator=generator, **options)
    if len(rows := (predict(model, points) == labels).nonzero().squeeze(1)):
        points[rows] = square(model, images[rows], labels[rows], queries=_FEW_QUERIES,
                              generator=derived(generator[rows], 1), **options)
    return points


class Variation(NamedTuple):
    """What is done to each image, how the model is asked, by how many grey levels the change moves a pixel at most
    where the attack has to leave room for it inside the ball, the attack (None: PGD on the margin), whether it is
    anything to the images `rows` (m,) of a scene, and the `every`-th of them that is attacked, where that is dear."""

    change: Callable[[Tensor], Tensor]
    asked: Callable[[Model], Model]
    room: float = 0.0
    attack: Callable[..., Tensor] | None = None
    applies: Callable[[Scene, Tensor, Variation], bool] = _always
    every: int = 1


VARIATIONS = {
    "as before": Variation(_same, _together),
    "one at a time": Variation(_same, _alone, every=2),
    "in another order": Variation(_same, _backwards),
    "channels last": Variation(_same, _channels_last),
    "not contiguous": Variation(_same, _strided),
    "double precision": Variation(_same, _in(torch.float64)),
    "in inference mode": Variation(_same, _served, attack=partial(square, queries=_QUERIES)),
    "as served": Variation(_rounded, _served_alone, 0.5, partial(square, queries=_QUERIES)),
    "8-bit pixels": Variation(_rounded, _together, 0.5),
    "8-bit pixels, one at a time": Variation(_rounded, _alone, 0.5, every=2),
    "float16 pixels": Variation(_of_few_bits(torch.float16), _together, 0.07, _both),
    "bfloat16 pixels": Variation(_of_few_bits(torch.bfloat16), _together, 0.5, _both),
    "half precision": Variation(_same, _in(torch.float16), applies=_answers_change),
    "mixed precision": Variation(_same, _mixed, applies=_answers_change),
    "alike in all channels": Variation(_grey, _together, attack=_both, applies=_of_grey_images),
    "one grey level in a corner": Variation(_cornered, _together),
    "frame zeroed": Variation(_unframed, _together),
    "a pixel off the grid": Variation(_nudged, _together),
}


def seen_as(model: Model, variation: Variation) -> Model:
    """The model under a variation: changed images, asked in that way."""
    asked = variation.asked(model)
    return lambda images: asked(variation.change(images))


def variation_of(name: str) -> Variation:
    """The variation of that name; there is an "in batches of N" for every N."""
    if name.startswith(IN_BATCHES):
        return Variation(_same, _in_batches_of(int(name.removeprefix(IN_BATCHES))))
    return VARIATIONS[name]
