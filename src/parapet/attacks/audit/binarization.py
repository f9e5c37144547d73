"""The binarization test: do the attacks find adversarial examples that are known to exist?

Zimmermann, Brendel, Tramèr, Carlini 2022, "Increasing Confidence in Adversarial Robustness Evaluations" (NeurIPS): the
last layer of the classifier is replaced by a binary readout for each image, placed so that at least one point of the
ball lies on its other side. An attack that misses such points proves nothing when it finds none on the model itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parapet.attacks.audit.context import AuditContext, audited_rows
from parapet.attacks.audit.verdicts import Result, judge_share, mean, result
from parapet.attacks.balls import ball
from parapet.attacks.black_box.square import square
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, ask
from parapet.attacks.noise import derived, uniform

# Points of each ball on which the readout is fitted, and random starts of PGD (suites have several as well).
_DRAWS, _STARTS = 64, 3
# On honest networks the attack misses only a few images.
_WARN, _FAIL = 0.1, 0.3
# Square runs on so many images that PGD misses: one by one, because each image has its own readout.
_SEARCHED = 12


def binarization(context: AuditContext) -> Result:
    """PGD crosses the readout of nearly every image.

    On narrow honest networks whose ReLUs are dead far from the image PGD misses half of the known points, and Square,
    which suites and the audit run too, finds them. So Square is run on what PGD misses: if it finds them, a fail
    becomes a warning, and a warning becomes a pass that mentions it.
    """
    rows = audited_rows(context.labels, context.budget.power_images, seed=2)
    images, seeds = context.images[rows], context.seeds[rows]
    features, kind = feature_extractor(context.model, images[:1])
    readout, valid = _fit_readout(features, images, context.eps, context.norm, seeds)
    numbers = {"features": kind, "images": int(valid.sum())}
    if not valid.any():
        return result("power", "warn", {**numbers, "found": None}, "The features do not change inside the ball, so the "
                      "strength of the attacks cannot be measured on them; compare with gradient-free attacks.")
    labels = torch.zeros(len(rows), dtype=torch.int64, device=images.device)
    found = torch.zeros_like(valid)
    for start in range(_STARTS):
        points = pgd(readout, images, labels, eps=context.eps, norm=context.norm, steps=context.budget.pgd_steps,
                     loss="margin", generator=derived(seeds, 95 + start))
        with torch.no_grad():
            found |= readout(points).argmax(1) == 1
    missed_by_gradients = mean(~found[valid])
    found_by_gradients = 1 - missed_by_gradients
    if missed_by_gradients < _WARN:
        return result("power", "pass", {**numbers, "found": found_by_gradients,
                                        "found_by_gradients": found_by_gradients},
                      "The attacks find the adversarial examples that are known to exist.")
    lost = (valid & ~found).nonzero().squeeze(1)[:_SEARCHED]
    missed = missed_by_gradients * (1 - _found_by_square(readout, images, lost, context, seeds) / len(lost))
    numbers |= {"found": 1 - missed, "found_by_gradients": found_by_gradients}
    seen = f"PGD finds {found_by_gradients:.0%} of the adversarial examples that are known to exist"
    if missed < _WARN and missed_by_gradients < _FAIL:
        return result("power", "pass", numbers, f"Taken into account: {seen}, and Square finds the others.")
    if missed < _WARN:
        return result("power", "warn", numbers, f"Only Square finds the adversarial examples that PGD misses ({seen}), "
                      "so the robust accuracy depends on gradient-free attacks; give them more queries.")
    return judge_share("power", missed, numbers, f"The attacks find only {1 - missed:.0%} of the adversarial examples "
                       "that are known to exist, so they are too weak for this model and its robust accuracy means "
                       "nothing; give them more steps, restarts and queries, or design an attack for this model.", "",
                       warn=_WARN, fail=_FAIL)


def _found_by_square(readout: Readout, images: Tensor, lost: Tensor, context: AuditContext, seeds: Tensor) -> int:
    """For how many of the rows `lost` (m,) Square finds a point beyond the readout."""
    label, count = torch.zeros(1, dtype=torch.int64, device=images.device), 0
    for row in lost.split(1):
        points = square(readout.select(row), images[row], label, eps=context.eps, norm=context.norm,
                        queries=context.budget.square_queries, generator=derived(seeds[row], 98))
        with torch.no_grad():
            count += int(readout.select(row)(points).argmax(1) == 1)
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

    def select(self, rows: Tensor) -> Readout:
        """The classifiers of the images `rows` (m,)."""
        return Readout(self.features, self.middle[rows], self.direction[rows], self.threshold[rows])


def feature_extractor(model: Model, probe: Tensor) -> tuple[Callable[[Tensor], Tensor], str]:
    """(images to features (N, F), what they are): the input of the last linear layer that a module runs, else the
    logits. `probe` (n, C, H, W) are images to try it on: a module may run no linear layer of its own."""
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
        # A readout needs one vector per image: no sequences of tokens, no repeated passes over the same images.
        return given[-1] if given and given[-1].dim() == 2 and len(given[-1]) == len(images) else None
    with torch.no_grad():
        if features(probe) is None:
            return lambda images: ask(model, images), "logits"

    def always(images: Tensor) -> Tensor:
        found = features(images)
        return ask(model, images) if found is None else found
    return always, "input of the last linear layer"


@torch.no_grad()
def _fit_readout(features: Callable[[Tensor], Tensor], images: Tensor, eps: float, norm: str,
                 seeds: Tensor) -> tuple[Readout, Tensor]:
    """(the readout, for which images a point of the ball is known to lie on its other side).

    The direction leads from the mean of the drawn points to the one farthest from it (in standard deviations); the
    threshold lies half way between that point and the next one in this direction.
    """
    around = ball(images, eps, norm)
    drawn = []
    for draw in range(_DRAWS):
        noise = uniform(derived(seeds, 94), images.shape[1:], draw)
        # Corners of the ball, because features change less inside it.
        drawn.append(features(around.start((noise > 0.5).to(images.dtype))).double())
    values = torch.stack(drawn, 1)
    centre, deviation = values.mean(1, keepdim=True), values.std(1, keepdim=True)
    scaled = (values - centre) / deviation.clamp(min=torch.finfo(torch.float32).tiny)
    farthest = scaled.square().sum(2).argmax(1)
    here = torch.arange(len(images), device=images.device)
    direction = scaled[here, farthest] / deviation.squeeze(1).clamp(min=torch.finfo(torch.float32).tiny)
    lengths = ((values - centre) * direction[:, None]).sum(2)
    top = lengths[here, farthest]
    lengths[here, farthest] = -torch.inf
    second = lengths.amax(1)
    threshold, valid = (top + second) / 2, (top > second) & (deviation.amax((1, 2)) > 0)
    return Readout(features, centre.squeeze(1), direction, threshold), valid
