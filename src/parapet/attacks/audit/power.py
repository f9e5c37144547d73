"""The attack's own power: does it find adversarial examples that are known to be there?

Zimmermann, Brendel, Tramèr, Carlini 2022, "Increasing Confidence in Adversarial Robustness Evaluations" (NeurIPS): the
classifier's last layer is replaced by a binary readout for each image, placed so that a point of the ball is sure to be
on its other side. An attack that misses such points on these features proves nothing by missing others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parapet.attacks.audit.scene import Scene, audited_rows
from parapet.attacks.audit.verdicts import Result, graded, mean, result
from parapet.attacks.balls import ball
from parapet.attacks.black_box.square import square
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, ask
from parapet.attacks.noise import derived, uniform

# Points of each ball that the readout is fitted on, and starts of the attack, of which suites have several too.
_DRAWS, _STARTS = 64, 3
# Of honest networks the attack finds all, give or take a few images.
_WARN, _FAIL = 0.1, 0.3
# Of what gradients miss, so many images are searched by Square: one by one, because each has a readout of its own.
_SEARCHED = 12


def power(scene: Scene) -> Result:
    """PGD must cross a readout of the features that a known point of the ball crosses, for nearly every image.

    On narrow honest networks whose ReLUs are dead far from the image gradients miss half of such points, and Square,
    which suite and audit ask too, finds them. So what gradients miss is searched by it: where it finds them, what would
    have been a fail is a warning, and what would have been a warning is taken into account.
    """
    rows = audited_rows(scene.labels, scene.budget.power_images, seed=2)
    images, seeds = scene.images[rows], scene.seeds[rows]
    features, kind = features_of(scene.model, images[:1])
    readout, sure = _fitted(features, images, scene.eps, scene.norm, seeds)
    numbers = {"features": kind, "images": int(sure.sum())}
    if not sure.any():
        return result("power", "warn", {**numbers, "found": None}, "The features do not change inside the ball, so the "
                      "attack's power cannot be measured on them; compare with attacks that use no gradients.")
    labels = torch.zeros(len(rows), dtype=torch.int64, device=images.device)
    found = torch.zeros_like(sure)
    for start in range(_STARTS):
        points = pgd(readout, images, labels, eps=scene.eps, norm=scene.norm, steps=scene.budget.pgd_steps,
                     loss="margin", generator=derived(seeds, 95 + start))
        with torch.no_grad():
            found |= readout(points).argmax(1) == 1
    by_gradients = mean(~found[sure])
    if by_gradients < _WARN:
        return result("power", "pass", {**numbers, "found": 1 - by_gradients, "found_by_gradients": 1 - by_gradients},
                      "The attack finds the adversarial examples that are known to be there.")
    lost = (sure & ~found).nonzero().squeeze(1)[:_SEARCHED]
    missed = by_gradients * (1 - _found_by_square(readout, images, lost, scene, seeds) / len(lost))
    numbers |= {"found": 1 - missed, "found_by_gradients": 1 - by_gradients}
    seen = f"gradients find {1 - by_gradients:.0%} of the adversarial examples that are known to be there"
    if missed < _WARN and by_gradients < _FAIL:
        return result("power", "pass", numbers, f"Taken into account: {seen}, and Square finds the others.")
    if missed < _WARN:
        return result("power", "warn", numbers, f"Only Square finds what the gradients miss ({seen}), so the number "
                      "rests on attacks without gradients; give them more queries.")
    return graded("power", missed, numbers, f"The attack finds {1 - missed:.0%} of the adversarial examples that are "
                  "known to be there, so it is too weak for this model; a number from it means nothing.", "",
                  warn=_WARN, fail=_FAIL)


def _found_by_square(readout: Readout, images: Tensor, lost: Tensor, scene: Scene, seeds: Tensor) -> int:
    """For how many of the rows `lost` (m,) Square finds a point beyond the readout."""
    label, count = torch.zeros(1, dtype=torch.int64, device=images.device), 0
    for row in lost.split(1):
        points = square(readout.of(row), images[row], label, eps=scene.eps, norm=scene.norm,
                        queries=scene.budget.square_queries, generator=derived(seeds[row], 98))
        with torch.no_grad():
            count += int(readout.of(row)(points).argmax(1) == 1)
    return count


@dataclass(frozen=True)
class Readout:
    """Binary classifiers of `features` (N, F), one for each image: logits (N, 2), the second one above 0 where a point
    lies beyond the image's `threshold` (N,) along its `direction` (N, F) from its `middle` (N, F)."""

    features: Callable[[Tensor], Tensor]
    middle: Tensor
    direction: Tensor
    threshold: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        beyond = ((self.features(points).double() - self.middle) * self.direction).sum(1) - self.threshold
        return torch.stack([torch.zeros_like(beyond), beyond], 1)

    def of(self, rows: Tensor) -> Readout:
        """That of the images `rows` (m,)."""
        return Readout(self.features, self.middle[rows], self.direction[rows], self.threshold[rows])


def features_of(model: Model, probe: Tensor) -> tuple[Callable[[Tensor], Tensor], str]:
    """(images to features (N, F), what they are): the input of the last linear layer that a module runs, else the
    logits. It is asked about `probe` (n, C, H, W) first: a module may run no layer of its own without gradients."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)] \
        if isinstance(model, nn.Module) else []

    def features(images: Tensor) -> Tensor | None:
        given: list[Tensor] = []
        hooks = [layer.register_forward_pre_hook(lambda layer, inputs: given.append(inputs[0])) for layer in layers]
        try:
            ask(model, images)
        finally:
            for hook in hooks:
                hook.remove()
        # Tokens, or several passes over the same images, are nothing that one readout fits.
        return given[-1] if given and given[-1].dim() == 2 and len(given[-1]) == len(images) else None
    with torch.no_grad():
        if features(probe) is None:
            return lambda images: ask(model, images), "logits"

    def always(images: Tensor) -> Tensor:
        found = features(images)
        return ask(model, images) if found is None else found
    return always, "input of the last linear layer"


@torch.no_grad()
def _fitted(features: Callable[[Tensor], Tensor], images: Tensor, eps: float, norm: str,
            seeds: Tensor) -> tuple[Readout, Tensor]:
    """(the readout; for which images a point of the ball is known to be on its other side).

    The direction leads from the mean of the draws to the draw that lies farthest from it; the threshold lies half way
    between that draw and the next one in this direction.
    """
    around = ball(images, eps, norm)
    drawn = []
    for draw in range(_DRAWS):
        noise = uniform(derived(seeds, 94), images.shape[1:], draw)
        # Corners of the ball: changes inside it are smaller.
        drawn.append(features(around.start((noise > 0.5).to(images.dtype))).double())
    values = torch.stack(drawn, 1)
    centre, deviation = values.mean(1, keepdim=True), values.std(1, keepdim=True)
    unit = (values - centre) / deviation.clamp(min=torch.finfo(torch.float32).tiny)
    farthest = unit.square().sum(2).argmax(1)
    here = torch.arange(len(images), device=images.device)
    direction = unit[here, farthest] / deviation.squeeze(1).clamp(min=torch.finfo(torch.float32).tiny)
    lengths = ((values - centre) * direction[:, None]).sum(2)
    top = lengths[here, farthest]
    lengths[here, farthest] = -torch.inf
    rival = lengths.amax(1)
    threshold, sure = (top + rival) / 2, (top > rival) & (deviation.amax((1, 2)) > 0)
    return Readout(features, centre.squeeze(1), direction, threshold), sure
