"""AutoAttack, the standard ensemble (Croce and Hein 2020), in its published composition and budgets."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from parapet.attacks.adaptive import adapted
from parapet.attacks.balls import distance
from parapet.attacks.batching import batches
from parapet.attacks.compositions import Attack, auto_attack_suite
from parapet.attacks.inputs import Model, check, first_answers, frozen, in_halves, predict
from parapet.attacks.noise import Generator, derived, image_seeds
from parapet.errors import InputError


class AttackResult(NamedTuple):
    """The result of an attack on a batch.

    points: the attack's end points, float (N, C, H, W) in [0, 1]; fooled: bool (N,), which of them lie in the ball and
    are misclassified; distances: double (N,), the distance of each misclassified point from its image under the norm of
    the attack, in pixel units, also outside the ball; infinite for points that are classified correctly.
    """

    points: Tensor
    fooled: Tensor
    distances: Tensor


def auto_attack(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf",
                version: str = "standard", batch_size: int = 256, early_stop: bool = True,
                generator: Generator | None = None) -> Tensor:
    """Adversarial images of the whole ensemble; each attack runs on the images that survived those before it.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. `version` is
    "standard" (APGD on cross-entropy, targeted APGD, targeted FAB, Square with 5,000 queries), "plus" (more restarts,
    untargeted DLR and FAB too), "rand" (both untargeted APGDs; for models in `Eot`) or "rapid" (A3, then Square from
    its end points: as strong as "standard" in a fraction of its time). Layers are attacked as they declare (`adapted`).
    Broken images always leave the batch; `early_stop` belongs to the common signature. Returns images of the same
    shape: an adversarial one inside the ball if one was found, else the image itself.
    """
    check(images, labels, eps=eps, norm=norm)
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    suite, adversarial, model = auto_attack_suite(version), images.clone(), adapted(model)
    seeds = image_seeds(len(images), generator, images.device)
    with frozen(model):
        stands = first_answers(model, images, labels, batch_size).argmax(1) == labels
        for place, attack in enumerate(suite):
            for rows in batches(stands, batch_size):
                points, fooled, _ = run_attack(attack, model, images[rows], labels[rows], eps, norm,
                                               derived(seeds[rows], place))
                adversarial[rows[fooled]] = points[fooled]
                stands[rows[fooled]] = False
    return adversarial


def run_attack(attack: Attack, model: Model, images: Tensor, labels: Tensor, eps: float, norm: str,
               seeds: Tensor) -> AttackResult:
    """Run one attack of a suite on a batch (N, C, H, W), in halves if the whole does not fit into memory.

    The result is judged by the model's answer on the returned images, never by the attack's own bookkeeping.
    """
    return AttackResult(*in_halves(partial(_attack_once, attack, model, eps, norm), images, labels, seeds))


def _attack_once(attack: Attack, model: Model, eps: float, norm: str, images: Tensor, labels: Tensor,
                 seeds: Tensor) -> AttackResult:
    if attack.minimum_norm:
        options = {"eps": eps, **attack.options} if attack.takes_eps else attack.options
        points, _ = attack.function(model, images, labels, norm=norm, generator=seeds, **options)
    else:
        points = attack.function(model, images, labels, eps=eps, norm=norm, early_stop=True, generator=seeds,
                                 **attack.options)
    wrong, lengths = predict(model, points) != labels, distance(points, images, norm)
    return AttackResult(points, wrong & (lengths <= eps), torch.where(wrong, lengths, torch.inf))
