"""Variations under which a model should answer alike: imperceptible changes of the images, and query modes.

A variation is a change of the images (rounding, a grey level in a corner, ...) together with a query mode
(query_modes.py) and the attack that is run under it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from parapet.attacks.audit import query_modes
from parapet.attacks.audit.context import AuditContext
from parapet.attacks.balls import ball
from parapet.attacks.black_box.square import square
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, answers, frozen, predict
from parapet.attacks.noise import derived, uniform

# Steps between black and white of 8-bit pixels.
LEVELS = 255
# Queries of Square in inference mode, where no gradient is recorded; they break an undefended network.
_QUERIES = 300
# Budget of PGD followed by Square, where the gradient may belong to another network than the label.
_STEPS, _FEW_QUERIES = 40, 100
# Prefixes of the names of variations that end in a number: a batch size, or steps between black and white.
IN_BATCHES, IN_STEPS = "in batches of ", "pixels in steps of 1/"
# Low precision changes every answer a little; a different model changes it by more than this share of the logits'
# standard deviation.
_CHANGED = 0.2


class _StraightThrough(torch.autograd.Function):
    """`change(images)`, with the gradient of the identity (BPDA, Athalye et al. 2018)."""

    @staticmethod
    def forward(ctx: object, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        return change(images)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _unchanged(images: Tensor) -> Tensor:
    return images


def quantise(images: Tensor, levels: int = LEVELS) -> Tensor:
    """Pixels rounded to `levels` steps between black and white, with the gradient of the identity."""
    nearest: Tensor = _StraightThrough.apply(images, lambda images: torch.round(images * levels) / levels)
    return nearest


def _cast_through(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Rounding to the numbers of `dtype`, with the gradient of the identity."""
    return lambda images: _StraightThrough.apply(images, lambda images: images.to(dtype).to(images.dtype))


def _greyscale(images: Tensor) -> Tensor:
    return images.mean(1, keepdim=True).expand_as(images)


def _shift_pixel(images: Tensor, row: int, column: int, *, size: float, highest: float) -> Tensor:
    """One pixel made brighter by `size`, or darker where it is above `highest`."""
    change = torch.zeros_like(images)
    pixel = images[:, :, row, column].detach()
    change[:, :, row, column] = torch.where(pixel <= highest, 1.0, -1.0) / size
    return images + change


def _shift_corner(images: Tensor) -> Tensor:
    """The pixel in the upper left corner changed by one grey level."""
    return _shift_pixel(images, 0, 0, size=LEVELS, highest=1 - 1 / LEVELS)


def _shift_middle(images: Tensor) -> Tensor:
    """The pixel in the middle changed by a third of a grey level."""
    return _shift_pixel(images, images.shape[2] // 2, images.shape[3] // 2, size=3 * LEVELS, highest=0.5)


def _zero_frame(images: Tensor) -> Tensor:
    inner = torch.zeros_like(images)
    inner[:, :, 1:-1, 1:-1] = 1
    return images * inner


def _uniform_areas(images: Tensor) -> Tensor:
    """Which pixels lie in a 3 x 3 square of equal pixels in every channel (borders, backgrounds), (N, 1, H, W)."""
    equal = (max_pool2d(images, 3, 1, 1) == -max_pool2d(-images, 3, 1, 1)).all(1, keepdim=True)
    return max_pool2d(equal.to(images.dtype), 3, 1, 1) > 0


def _has_grey_images(context: AuditContext, rows: Tensor, variation: Variation) -> bool:
    images = context.images[rows]
    return images.shape[1] > 1 and torch.equal(images, images[:, :1].expand_as(images))


def _has_uniform_areas(context: AuditContext, rows: Tensor, variation: Variation) -> bool:
    return bool(_uniform_areas(context.images[rows]).any())


def _answers_change(context: AuditContext, rows: Tensor, variation: Variation) -> bool:
    """Whether answers inside the ball change by more than low precision explains."""
    noise = uniform(derived(context.seeds[rows], 83), context.images.shape[1:])
    points = ball(context.images[rows], context.eps, context.norm).start(noise)
    with frozen(context.model), torch.no_grad():
        logits = answers(context.model, points)
        change = float((variation.query(context.model)(points) - logits).abs().amax())
    return not change <= _CHANGED * float(logits.std())


def _pgd_then_square(model: Model, images: Tensor, labels: Tensor, *, generator: Tensor, **options: Any) -> Tensor:
    """PGD, then Square on what survives: under this variation answers and gradients may come from different networks.
    """
    points = pgd(model, images, labels, steps=_STEPS, loss="margin", generator=generator, **options)
    if len(rows := (predict(model, points) == labels).nonzero().squeeze(1)):
        points[rows] = square(model, images[rows], labels[rows], queries=_FEW_QUERIES,
                              generator=derived(generator[rows], 1), **options)
    return points


class Variation(NamedTuple):
    """A variation and the attack that is run under it.

    change: of the images; query: the query mode; room: by how many grey levels the change moves a pixel at most, where
    the attack has to leave that room inside the ball; attack: None means PGD on the margin; applies: whether the
    variation is meaningful for the images `rows` (m,) of a context; every: only every n-th image is attacked, where
    that is expensive; kept: which pixels of the clean images the attack may not change.
    """

    change: Callable[[Tensor], Tensor]
    query: Callable[[Model], Model]
    room: float = 0.0
    attack: Callable[..., Tensor] | None = None
    applies: Callable[[AuditContext, Tensor, Variation], bool] = lambda context, rows, variation: True
    every: int = 1
    kept: Callable[[Tensor], Tensor] | None = None


VARIATIONS = {
    "as before": Variation(_unchanged, query_modes.whole_batch),
    "one at a time": Variation(_unchanged, query_modes.one_at_a_time, every=2),
    "in another order": Variation(_unchanged, query_modes.reversed_order),
    "channels last": Variation(_unchanged, query_modes.channels_last),
    "not contiguous": Variation(_unchanged, query_modes.non_contiguous),
    "double precision": Variation(_unchanged, query_modes.in_precision(torch.float64)),
    "in inference mode": Variation(_unchanged, query_modes.as_service, attack=partial(square, queries=_QUERIES)),
    "as served": Variation(quantise, query_modes.as_service_one_at_a_time, 0.5, partial(square, queries=_QUERIES)),
    "8-bit pixels": Variation(quantise, query_modes.whole_batch, 0.5),
    "8-bit pixels, one at a time": Variation(quantise, query_modes.one_at_a_time, 0.5, every=2),
    "float16 pixels": Variation(_cast_through(torch.float16), query_modes.whole_batch, 0.07, _pgd_then_square),
    "bfloat16 pixels": Variation(_cast_through(torch.bfloat16), query_modes.whole_batch, 0.5, _pgd_then_square),
    "half precision": Variation(_unchanged, query_modes.in_precision(torch.float16), applies=_answers_change),
    "mixed precision": Variation(_unchanged, query_modes.mixed_precision, applies=_answers_change),
    "alike in all channels": Variation(_greyscale, query_modes.whole_batch, attack=_pgd_then_square,
                                       applies=_has_grey_images),
    "one grey level in a corner": Variation(_shift_corner, query_modes.whole_batch),
    "frame zeroed": Variation(_zero_frame, query_modes.whole_batch),
    "even areas kept": Variation(_unchanged, query_modes.whole_batch, applies=_has_uniform_areas, kept=_uniform_areas),
    "a pixel off the grid": Variation(_shift_middle, query_modes.whole_batch),
}


def apply_variation(model: Model, variation: Variation, images: Tensor) -> Model:
    """The model under a variation: it changes its inputs, which lie near `images` (N, C, H, W), and queries the model
    in the mode of the variation."""
    query, change = variation.query(model), change_of(variation, images)
    return lambda points: query(change(points))


def change_of(variation: Variation, images: Tensor) -> Callable[[Tensor], Tensor]:
    """The variation's change of points that each lie near one of `images` (N, C, H, W)."""
    if variation.kept is None:
        return variation.change
    flat, kept = images.flatten(1), variation.kept(images)

    def change(points: Tensor) -> Tensor:
        # An attack may drop images from its batch, so the image of each point is found by distance.
        own = torch.cdist(points.detach().flatten(1), flat).argmin(1)
        return variation.change(torch.where(kept[own], images[own], points))
    return change


def variation_named(name: str) -> Variation:
    """The variation of that name; "in batches of N" and "pixels in steps of 1/N" exist for every N."""
    if name.startswith(IN_BATCHES):
        return Variation(_unchanged, query_modes.in_batches_of(int(name.removeprefix(IN_BATCHES))))
    if name.startswith(IN_STEPS):
        levels = int(name.removeprefix(IN_STEPS))
        return Variation(partial(quantise, levels=levels), query_modes.whole_batch, 0.5 * LEVELS / levels)
    return VARIATIONS[name]
