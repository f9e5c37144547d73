"""What a training step minimises: a weighted sum of one loss, MOREL's embedding losses and regularisers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor, nn

from parapet.attacks.noise import Generator
from parapet.catalogue.crafting import REGULARISERS
from parapet.catalogue.losses import LOSSES, MOREL_WEIGHTS, Loss, Weight
from parapet.catalogue.spec import Catalogue, resolve
from parapet.errors import InputError
from parapet.training.losses import Pieces, embedding_loss, one_pass
from parapet.training.morel import MorelHead, classifier_layer, features_of
from parapet.training.regularisers import noisy_images

_MOREL = {weight.name: weight.recommended for weight in MOREL_WEIGHTS}
_SMOOTHING = Weight("smoothing", "label_smoothing", 0.0, below_one=True)


@dataclass(frozen=True)
class TrainingLoss:
    """A sum of `loss` and regularisers; unknown names and weights that could make it negative raise InputError.

    `loss` is a name of `LOSSES`; `weights` are its own and, where it may be combined with MOREL, `MOREL_WEIGHTS`, by
    default those of the papers. `regularisers` maps names of `REGULARISERS` to weights; one of weight 0 costs nothing.
    `smoothing` in [0, 1) is label smoothing.
    """

    loss: str
    weights: Mapping[str, float] = field(default_factory=dict)
    regularisers: Mapping[str, float] = field(default_factory=dict)
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        LOSSES.find(self.loss, "loss")
        known = Catalogue("a weight", (*self.spec.weights, *(MOREL_WEIGHTS if self.spec.joins_morel else ())))
        for name, value in self.weights.items():
            if not known:
                raise InputError(f"the loss {self.loss} has no weights; leave out {name}.")
            weight = known.find(name, f"a weight of the loss {self.loss}")
            _check_weight(f"weights.{name} of the loss {self.loss}", weight, value)
        for name, value in self.regularisers.items():
            REGULARISERS.find(name, "a regulariser")
            _check_weight(f"regularisers.{name}", Weight(name, name, 0.0), value)
        _check_weight("smoothing", _SMOOTHING, self.smoothing)

    @property
    def spec(self) -> Loss:
        """The declaration of the loss."""
        return LOSSES[self.loss]

    @property
    def morel(self) -> float:
        """MOREL's share of the sum; above 0 a call needs a `morel_head`."""
        return self.weights.get("morel", _MOREL["morel"])

    @property
    def differentiated_twice(self) -> list[str]:
        """The regularisers whose gradients need second derivatives."""
        return [name for name in self._used() if REGULARISERS[name].differentiated_twice]

    @property
    def parts(self) -> tuple[str, ...]:
        """The versions of each image in the forward pass of a call: clean, adversarial, noisy."""
        needed = {version for name in self._used() for version in REGULARISERS[name].versions}
        if self.spec.clean_weight is None or self._own_weights()[self.spec.clean_weight] > 0:
            needed.add("clean")
        if self.spec.attacked:
            needed.add("adversarial")
        return tuple(version for version in ("clean", "adversarial", "noisy") if version in needed)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None, *,
                 eps: float = 0.0, norm: str = "linf", seeds: Generator | None = None,
                 morel_head: MorelHead | None = None, teacher: nn.Module | None = None) -> tuple[Tensor, Pieces]:
        """(scalar, pieces) of images and adversarial images (N, C, H, W) in [0, 1] and labels (N,); one forward pass.

        `eps`, `norm` and `seeds`, int64 (N,), are the ball and the noise of gradient alignment; distillation needs its
        `teacher` in eval mode. The pieces are the unweighted terms, detached.
        """
        if self.morel > 0 and morel_head is None:
            raise InputError(f"weights.morel of the loss {self.loss} is {self.morel:g} and there is no morel_head; "
                             "build one with MorelHead(features, generator).")
        if self.spec.teacher is not None and teacher is None:
            raise InputError(f"the loss {self.loss} has no teacher; train one with the loss {self.spec.teacher} and "
                             "give it.")
        parts, used = self.parts, self._used()
        noisy = None
        if "noisy" in parts:
            noisy = noisy_images(images.detach(), eps, norm, seeds).requires_grad_()
        if self.differentiated_twice:
            images = images.detach().requires_grad_()
        versions = {"clean": images, "adversarial": adversarial, "noisy": noisy}
        watched: AbstractContextManager[list[Tensor]] = nullcontext([])
        if self.morel > 0:
            watched = features_of(classifier_layer(model))
        with watched as seen:
            logits = one_pass(model, **{name: versions[name] for name in parts})
        teacher_argument = {} if self.spec.teacher is None else {"teacher": teacher}
        loss, pieces = resolve(self.spec.function)(
            model, images, labels, adversarial if "adversarial" in parts else None, smoothing=self.smoothing,
            logits=logits, **self._own_weights(), **teacher_argument)
        if self.morel > 0 and morel_head is not None:
            clean_features, adversarial_features = seen[-1].chunk(len(parts))[:2]
            embedded, more = embedding_loss(morel_head, clean_features, adversarial_features, labels,
                                            alpha=self.weights.get("morel_alpha", _MOREL["morel_alpha"]))
            loss, pieces = (1 - self.morel) * loss + self.morel * embedded, pieces | more
        for name, weight in used.items():
            value = resolve(REGULARISERS[name].function)(model, images, labels, adversarial, eps=eps, norm=norm,
                                                      seeds=seeds, noisy=noisy, logits=logits)
            loss, pieces = loss + weight * value, pieces | {name: value.detach()}
        return loss, pieces

    def _own_weights(self) -> dict[str, float]:
        return {name: self.weights.get(name, default) for name, default in self.spec.recommended.items()}

    def _used(self) -> dict[str, float]:
        return {name: weight for name, weight in self.regularisers.items() if weight > 0}


def _check_weight(where: str, weight: Weight, value: float) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if weight.below_one:
        if not (number and 0 <= value < 1):
            raise InputError(f"{where} is {value!r}; it must be a number from 0 to below 1.")
    elif not (number and math.isfinite(value) and value >= 0):
        raise InputError(f"{where} is {value!r}; it must be a finite number of at least 0.")
    elif weight.above_zero and value == 0:
        raise InputError(f"{where} is 0; it must be a finite number above 0.")
