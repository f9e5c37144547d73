"""A suite of attacks on one set of images: accuracy under each, and the per-image minimum of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from parapet.attacks.balls import distance
from parapet.attacks.deepfool import deepfool
from parapet.attacks.fgsm import fgsm
from parapet.attacks.inputs import Model, check, check_logits, frozen, predict
from parapet.attacks.intervals import wilson
from parapet.attacks.pgd import pgd

SCHEMA_VERSION = 1
# The nearest boundary is hardly ever that of a class further down, and each class costs a backward pass.
_DEEPFOOL_CLASSES = 5


@dataclass(frozen=True)
class Attack:
    """A named attack of a suite; `minimum_norm` attacks count as successful where their distance is within eps."""

    name: str
    function: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    minimum_norm: bool = False


def search_suite(*, pgd_steps: int, pgd_restarts: int) -> list[Attack]:
    """What every candidate of a search meets: FGSM, and PGD on cross-entropy and on the margin.

    The margin attack is there because label smoothing and other changes of the logits' scale fake robustness
    under cross-entropy alone.
    """
    return [Attack("fgsm", fgsm),
            Attack("pgd_ce", pgd, {"steps": pgd_steps, "restarts": pgd_restarts, "loss": "ce"}),
            Attack("pgd_margin", pgd, {"steps": pgd_steps, "restarts": pgd_restarts, "loss": "margin"})]


def full_suite(*, pgd_steps: int, pgd_restarts: int, deepfool_steps: int) -> list[Attack]:
    """What the front meets on the test split: the search's suite with a larger budget, and DeepFool."""
    return [*search_suite(pgd_steps=pgd_steps, pgd_restarts=pgd_restarts),
            Attack("deepfool", deepfool, {"steps": deepfool_steps, "classes": _DEEPFOOL_CLASSES}, minimum_norm=True)]


def evaluate(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float, suite: Sequence[Attack],
             generator: torch.Generator | None = None, batch_size: int = 512) -> dict[str, Any]:
    """The record of `run_suite`, without the images."""
    return run_suite(model, images, labels, norm=norm, eps=eps, suite=suite, generator=generator,
                     batch_size=batch_size)[0]


def run_suite(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float, suite: Sequence[Attack],
              generator: torch.Generator | None = None, batch_size: int = 512,
              progress: Callable[[str, float], None] | None = None,
              turn: Callable[[], AbstractContextManager] = nullcontext) -> tuple[dict[str, Any], Tensor]:
    """Attack every image that is classified rightly with every attack of the suite.

    images: float (N, C, H, W) in [0, 1], N >= 1; labels: (N,). Returns (record, adversarial images (N, C, H, W)):
    the record as `evaluation` in the JSON Schema, with accuracies as fractions of 1 and one 0/1 per image under
    each attack; of each image the first adversarial version that fools the model, else the image itself.
    `progress` is told the attack's name and the share of the suite that is done; `turn` is entered for each batch,
    so that latency can be timed in between.
    """
    check(images, labels, eps=eps, norm=norm)
    started = time.perf_counter()
    counted = _Counted(model)
    with frozen(model):
        with torch.no_grad():
            check_logits(model(images[:batch_size]), labels[:batch_size])
        right = predict(counted, images, batch_size) == labels
        outcomes, robust, adversarial, attacks = {"clean": right}, right.clone(), images.clone(), {}
        for place, attack in enumerate(suite):
            counted.reset()
            attack_started = time.perf_counter()
            survived, worst, distances = right.clone(), images.clone(), []
            rows = right.nonzero().squeeze(1)
            for done, batch in enumerate(rows.split(batch_size)):
                if progress:
                    progress(attack.name, (place + done * batch_size / max(1, len(rows))) / len(suite))
                with turn():
                    points, length = _attack(attack, counted, images[batch], labels[batch], eps, norm, generator)
                    # Believe the model's answer on the images handed back, never an attack's own book-keeping.
                    fooled = (predict(model, points, batch_size) != labels[batch]) & (length <= eps)
                survived[batch[fooled]] = False
                worst[batch] = points
                distances.append(length)
            attacks[attack.name] = {
                **_share("accuracy", survived), "seconds": time.perf_counter() - attack_started,
                "gradient_evaluations": counted.with_gradient, "queries": counted.queries,
                "median_distance": _median(distances) if attack.minimum_norm else None}
            outcomes[attack.name] = survived
            first = robust & ~survived
            adversarial[first] = worst[first]
            robust &= survived
    record = {"schema_version": SCHEMA_VERSION, "threat": {"norm": norm, "eps": eps}, "n": len(images),
              **_share("clean_accuracy", right, "clean_interval"),
              **_share("robust_accuracy", robust, "robust_interval"), "attacks": attacks,
              "outcomes": {name: "".join(map(str, row.int().tolist())) for name, row in outcomes.items()},
              "seconds": time.perf_counter() - started}
    return record, adversarial


def _attack(attack: Attack, model: Model, images: Tensor, labels: Tensor, eps: float, norm: str,
            generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """(adversarial images, their distance under the norm, (N,)); a ball attack that leaves its ball has failed."""
    if attack.minimum_norm:
        points, distances = attack.function(model, images, labels, norm=norm, generator=generator, **attack.options)
        return points, distances
    points = attack.function(model, images, labels, eps=eps, norm=norm, early_stop=True, generator=generator,
                             **attack.options)
    return points, distance(points, images, norm)


def _share(name: str, outcomes: Tensor, interval: str = "interval") -> dict[str, Any]:
    count, n = int(outcomes.sum()), len(outcomes)
    return {name: count / n, interval: list(wilson(count, n))}


def _median(distances: list[Tensor]) -> float | None:
    values = torch.cat(distances) if distances else torch.empty(0)
    finite = values[torch.isfinite(values)]
    return float(finite.median()) if len(finite) else None


class _Counted:
    """A model that counts the images it saw, with and without gradients."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.reset()

    def reset(self) -> None:
        self.with_gradient = self.queries = 0

    def __call__(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            self.with_gradient += len(images)
        else:
            self.queries += len(images)
        return self.model(images)
