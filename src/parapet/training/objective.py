"""What a training step descends on: one loss, its weights, MOREL where it is asked for, any regularisers."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor, nn

from parapet.attacks.noise import Generator
from parapet.errors import InputError
from parapet.genome import UNATTACKED
from parapet.training.losses import LOSSES, Pieces, embedding_loss, one_pass
from parapet.training.losses.morel import ACCURACY_LOSSES
from parapet.training.morel import MorelHead, classifier_layer, features_of
from parapet.training.regularisers import REGULARISERS, noisy_images

# The weights of each loss with the values that their papers recommend.
WEIGHTS: dict[str, dict[str, float]] = {"standard": {}, "pgd": {"clean_share": 0.0}, "trades": {"beta": 6.0},
                                        "mart": {"beta": 6.0}, "alp": {"pairing": 0.5},
                                        "softened": {"temperature": 20.0}, "distillation": {"temperature": 20.0},
                                        "max_mahalanobis": {}}
# `morel` is the second entry of MOREL's preference vector (1 - morel, morel), 0.1 in the paper; 0 leaves MOREL out.
MOREL_WEIGHTS = {"morel": 0.0, "morel_alpha": 1e-5}
# Shares of a whole: at 1 the other part would vanish, above 1 it would count as negative.
_BELOW_ONE = ("clean_share", "morel", "smoothing")


@dataclass(frozen=True)
class Objective:
    """A sum of `loss` and regularisers; unknown names and weights that could make it negative raise InputError.

    `loss` is a name of `LOSSES`, `weights` are its own (see `WEIGHTS`, and `MOREL_WEIGHTS` for trades and mart), where
    one that is left out has the value of its paper. `regularisers` maps names of `REGULARISERS` to weights; one of
    weight 0 costs nothing. `smoothing` in [0, 1) is label smoothing.
    """

    loss: str
    weights: Mapping[str, float] = field(default_factory=dict)
    regularisers: Mapping[str, float] = field(default_factory=dict)
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_name("loss", self.loss, LOSSES)
        known = WEIGHTS[self.loss] | (MOREL_WEIGHTS if self.loss in ACCURACY_LOSSES else {})
        for name, value in self.weights.items():
            _check_name(f"a weight of the loss {self.loss}", name, known)
            _check_weight(f"weights.{name} of the loss {self.loss}", name, value)
        for name, value in self.regularisers.items():
            _check_name("a regulariser", name, REGULARISERS)
            _check_weight(f"regularisers.{name}", name, value)
        _check_weight("smoothing", "smoothing", self.smoothing)

    @property
    def morel(self) -> float:
        """MOREL's share of the objective; above 0 a call needs a `morel_head`."""
        return self.weights.get("morel", MOREL_WEIGHTS["morel"])

    @property
    def parts(self) -> tuple[str, ...]:
        """The versions of each image that one call sends through the model: clean, adversarial, noisy."""
        used = [name for name, weight in self.regularisers.items() if weight > 0]
        noisy = "gradient_alignment" in used
        adversarial = self.loss not in UNATTACKED
        clean = self.loss != "pgd" or self._own_weights()["clean_share"] > 0 or noisy or "input_gradient" in used
        return tuple(name for name, wanted in (("clean", clean), ("adversarial", adversarial), ("noisy", noisy))
                     if wanted)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor | None, *,
                 eps: float = 0.0, norm: str = "linf", seeds: Generator | None = None,
                 morel_head: MorelHead | None = None, teacher: nn.Module | None = None) -> tuple[Tensor, Pieces]:
        """(scalar, pieces) of images and adversarial images (N, C, H, W) in [0, 1] and labels (N,), from one forward
        pass.

        `eps`, `norm` and `seeds`, int64 (N,), are the ball and the noise of gradient alignment; distillation needs its
        `teacher`, in eval mode. The pieces are the terms before their weights, detached.
        """
        if self.morel > 0 and morel_head is None:
            raise InputError(f"weights.morel of the loss {self.loss} is {self.morel:g} and there is no morel_head; "
                             "build one with MorelHead(features, generator).")
        if self.loss == "distillation" and teacher is None:
            raise InputError("the loss distillation has no teacher; train one with the loss softened and give it.")
        parts = self.parts
        used = {name: weight for name, weight in self.regularisers.items() if weight > 0}
        noisy = None
        if "noisy" in parts:
            noisy = noisy_images(images.detach(), eps, norm, seeds).requires_grad_()
        if "noisy" in parts or "input_gradient" in used:
            images = images.detach().requires_grad_()
        versions = {"clean": images, "adversarial": adversarial, "noisy": noisy}
        watched: AbstractContextManager[list[Tensor]] = nullcontext([])
        if self.morel > 0:
            watched = features_of(classifier_layer(model))
        with watched as seen:
            logits = one_pass(model, **{name: versions[name] for name in parts})
        learnt_from = {"teacher": teacher} if self.loss == "distillation" else {}
        loss, pieces = LOSSES[self.loss](model, images, labels, adversarial if "adversarial" in parts else None,
                                         smoothing=self.smoothing, logits=logits, **self._own_weights(), **learnt_from)
        if self.morel > 0 and morel_head is not None:
            clean_features, adversarial_features = seen[-1].chunk(len(parts))[:2]
            embedded, more = embedding_loss(morel_head, clean_features, adversarial_features, labels,
                                            alpha=self.weights.get("morel_alpha", MOREL_WEIGHTS["morel_alpha"]))
            loss, pieces = (1 - self.morel) * loss + self.morel * embedded, pieces | more
        for name, weight in used.items():
            value = REGULARISERS[name](model, images, labels, adversarial, eps=eps, norm=norm, seeds=seeds,
                                       noisy=noisy, logits=logits)
            loss, pieces = loss + weight * value, pieces | {name: value.detach()}
        return loss, pieces

    def _own_weights(self) -> dict[str, float]:
        return {name: self.weights.get(name, default) for name, default in WEIGHTS[self.loss].items()}


def _check_name(what: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {near[0]}? Allowed" if near else "allowed"
        allowed = f"{hint}: {', '.join(names)}." if names else "it has none."
        raise InputError(f"{what} is {name!r}; {allowed}" if what == "loss" else f"{name!r} is not {what}; {allowed}")


def _check_weight(where: str, name: str, value: float) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if name in _BELOW_ONE:
        if not (number and 0 <= value < 1):
            raise InputError(f"{where} is {value!r}; it must be a number from 0 to below 1.")
    elif not (number and math.isfinite(value) and value >= 0):
        raise InputError(f"{where} is {value!r}; it must be a finite number of at least 0.")
    elif name == "temperature" and value == 0:
        raise InputError(f"{where} is 0; it must be a finite number above 0.")
