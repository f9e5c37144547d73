"""Ways in which the same model is seen: changes of an image that nobody sees, and ways of asking (asking.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from parapet.attacks.audit import asking
from parapet.attacks.audit.scene import Scene
from parapet.attacks.balls import ball
from parapet.attacks.black_box.square import square
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, answers, frozen, predict
from parapet.attacks.noise import derived, uniform

# Steps between black and white that 8 bits hold.
LEVELS = 255
# Where no gradient is recorded an undefended network falls to so many queries.
_QUERIES = 300
# What PGD and Square may spend where the label and its gradient may be two networks' own.
_STEPS, _FEW_QUERIES = 40, 100
# How the names of variations begin that have a number at their end: of images, of steps between black and white.
IN_BATCHES, IN_STEPS = "in batches of ", "pixels in steps of 1/"
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


def rounded(images: Tensor, levels: int = LEVELS) -> Tensor:
    """The nearest pixels of so many steps between black and white, with the gradient of the identity."""
    nearest: Tensor = _StraightThrough.apply(images, lambda images: torch.round(images * levels) / levels)
    return nearest


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


def _even(images: Tensor) -> Tensor:
    """Which pixels lie in a square of 3 by 3 alike pixels, in all channels: frames, borders, black grounds."""
    alike = (max_pool2d(images, 3, 1, 1) == -max_pool2d(-images, 3, 1, 1)).all(1, keepdim=True)
    return max_pool2d(alike.to(images.dtype), 3, 1, 1) > 0


def _nudged(images: Tensor) -> Tensor:
    """A third of a grey level in the middle."""
    change = torch.zeros_like(images)
    row, column = images.shape[2] // 2, images.shape[3] // 2
    middle = images[:, :, row, column].detach()
    change[:, :, row, column] = torch.where(middle <= 0.5, 1.0, -1.0) / (3 * LEVELS)
    return images + change


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


def _even_somewhere(scene: Scene, rows: Tensor, variation: Variation) -> bool:
    return bool(_even(scene.images[rows]).any())


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
    anything to the images `rows` (m,) of a scene, the `every`-th of them that is attacked, where that is dear, and
    which pixels of the clean images stay as they are."""

    change: Callable[[Tensor], Tensor]
    asked: Callable[[Model], Model]
    room: float = 0.0
    attack: Callable[..., Tensor] | None = None
    applies: Callable[[Scene, Tensor, Variation], bool] = _always
    every: int = 1
    kept: Callable[[Tensor], Tensor] | None = None


VARIATIONS = {
    "as before": Variation(_same, asking.together),
    "one at a time": Variation(_same, asking.alone, every=2),
    "in another order": Variation(_same, asking.backwards),
    "channels last": Variation(_same, asking.channels_last),
    "not contiguous": Variation(_same, asking.strided),
    "double precision": Variation(_same, asking.in_precision(torch.float64)),
    "in inference mode": Variation(_same, asking.served, attack=partial(square, queries=_QUERIES)),
    "as served": Variation(rounded, asking.served_alone, 0.5, partial(square, queries=_QUERIES)),
    "8-bit pixels": Variation(rounded, asking.together, 0.5),
    "8-bit pixels, one at a time": Variation(rounded, asking.alone, 0.5, every=2),
    "float16 pixels": Variation(_of_few_bits(torch.float16), asking.together, 0.07, _both),
    "bfloat16 pixels": Variation(_of_few_bits(torch.bfloat16), asking.together, 0.5, _both),
    "half precision": Variation(_same, asking.in_precision(torch.float16), applies=_answers_change),
    "mixed precision": Variation(_same, asking.mixed, applies=_answers_change),
    "alike in all channels": Variation(_grey, asking.together, attack=_both, applies=_of_grey_images),
    "one grey level in a corner": Variation(_cornered, asking.together),
    "frame zeroed": Variation(_unframed, asking.together),
    "even areas kept": Variation(_same, asking.together, applies=_even_somewhere, kept=_even),
    "a pixel off the grid": Variation(_nudged, asking.together),
}


def seen_as(model: Model, variation: Variation, images: Tensor) -> Model:
    """The model under a variation: changed versions of `images` (N, C, H, W), asked in that way."""
    asked, change = variation.asked(model), changed_by(variation, images)
    return lambda points: asked(change(points))


def changed_by(variation: Variation, images: Tensor) -> Callable[[Tensor], Tensor]:
    """What a variation makes of points that each lie near one of `images` (N, C, H, W)."""
    if variation.kept is None:
        return variation.change
    flat, kept = images.flatten(1), variation.kept(images)

    def change(points: Tensor) -> Tensor:
        # An attack may leave out images on its way, so each point is told by the image that it lies next to.
        own = torch.cdist(points.detach().flatten(1), flat).argmin(1)
        return variation.change(torch.where(kept[own], images[own], points))
    return change


def variation_of(name: str) -> Variation:
    """The variation of that name; there are "in batches of N" and "pixels in steps of 1/N" for every N."""
    if name.startswith(IN_BATCHES):
        return Variation(_same, asking.in_batches_of(int(name.removeprefix(IN_BATCHES))))
    if name.startswith(IN_STEPS):
        levels = int(name.removeprefix(IN_STEPS))
        return Variation(partial(rounded, levels=levels), asking.together, 0.5 * LEVELS / levels)
    return VARIATIONS[name]
