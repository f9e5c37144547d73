"""A surrogate network fitted to the labels that a model predicts, and attacks that start from it.

Papernot, McDaniel, Goodfellow, Jha, Celik, Swami 2017, "Practical Black-Box Attacks against Machine Learning": the
surrogate is trained on labels predicted by the model, on points around the data and on the surrogate's own adversarial
images. This reveals a model whose gradients do not belong to its labels (a smooth decoy beside a hard label).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from parapet.attacks.audit.context import AuditContext, audited_rows
from parapet.attacks.audit.verdicts import Result, judge_gap, mean, result
from parapet.attacks.balls import ball, distance, widest
from parapet.attacks.black_box.hop_skip_jump import hop_skip_jump
from parapet.attacks.black_box.rays import rays
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, frozen, predict
from parapet.attacks.noise import derived, uniform

_WIDTH, _HIDDEN = 32, 128
_ROUNDS, _STEPS, _BATCH, _RATE = 6, 80, 128, 2e-3
# The mean share of another image in a mixture, and the radius, in eps, of the balls from which points are drawn.
_MIXED, _WIDE = 0.25, 1.5
_ASCENT = 20
# The most images around which the surrogate is fitted, or which are attacked together; this bounds memory.
_MOST = 512


class _Surrogate(nn.Module):
    """Two convolutions and two linear layers, with smooth activations; weights are drawn from `generator`."""

    def __init__(self, shape: torch.Size, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, height, width = shape
        self.layers = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, 3, padding=1), nn.SiLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, stride=2), nn.SiLU(), nn.Flatten(),
            nn.Linear(_WIDTH * ((height + 1) // 2) * ((width + 1) // 2), _HIDDEN), nn.SiLU(),
            nn.Linear(_HIDDEN, classes))
        with torch.no_grad():
            for parameter in self.parameters():
                deviation = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.0
                parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.layers(images - 0.5)
        return logits


def fit_surrogate(model: Model, images: Tensor, seeds: Tensor, *, classes: int, eps: float, norm: str) -> nn.Module:
    """A surrogate fitted to the labels that `model` predicts for images, mixtures of them, points around them, and
    adversarial images of the surrogate itself; only the first 512 images are used.

    images: float (N, C, H, W) in [0, 1]; seeds: int64 (N,).
    """
    images, seeds = images[:_MOST], seeds[:_MOST]
    generator = torch.Generator().manual_seed(int(seeds[0]) % 2**63)
    surrogate = _Surrogate(images.shape[1:], classes, generator).to(images.device, images.dtype)
    optimiser = torch.optim.Adam(surrogate.parameters(), lr=_RATE)
    pool, answers = images, predict(model, images)
    for turn in range(_ROUNDS):
        pools = [pool, _sample_around(images, eps, norm, seeds, turn, generator)]
        if turn:
            with frozen(surrogate):
                pools.append(pgd(surrogate, images, predict(model, images), eps=eps, norm=norm, steps=10,
                                 loss="margin", generator=derived(seeds, 200 + turn)))
        answers = torch.cat([answers, *(predict(model, points) for points in pools[1:])])
        pool = torch.cat(pools)
        for _ in range(_STEPS):
            rows = torch.randint(len(pool), (_BATCH,), generator=generator).to(pool.device)
            optimiser.zero_grad()
            cross_entropy(surrogate(pool[rows]), answers[rows]).backward()
            optimiser.step()
    return surrogate.eval()


def labels_alone(context: AuditContext) -> Result:
    """Attacks that use predicted labels only (a surrogate fitted to them, RayS, and HopSkipJump from the surrogate's
    images) break nothing that the white-box attacks do not."""
    before = context.white_box
    if not bool(before.any()):
        return result("labels_alone", "pass", {"white_box": 0.0}, "Not needed: no image survives the white-box "
                      "attacks.")
    surrogate = fit_surrogate(context.model, context.images, derived(context.seeds, 96),
                              classes=context.logits.shape[1], eps=context.eps, norm=context.norm)
    after_transfer = before & context.survivors(transfer_from_surrogate, stream=97, among=before, surrogate=surrogate)
    part = after_transfer.nonzero().squeeze(1)
    part = part[audited_rows(context.labels[part], context.budget.decision_images, seed=3)]
    after = after_transfer
    if len(part):
        points = decision_attacks(context.model, surrogate, context.images[part], context.labels[part], context.eps,
                                  context.norm, context.budget.decision_queries, derived(context.seeds[part], 98))
        after = after_transfer & context.try_points_at(part, points)
    numbers = {"white_box": mean(before), "with_surrogate": mean(after_transfer), "with_decisions": mean(after),
               "decision_images": len(part)}
    return judge_gap("labels_alone", before, after, numbers, "Attacks that use predicted labels only break images that "
                     "gradient-based attacks do not, so the gradients do not belong to the labels; report the lower "
                     "number.")


def transfer_from_surrogate(model: Model, images: Tensor, labels: Tensor, *, surrogate: nn.Module, eps: float,
                            norm: str, early_stop: bool = False, generator: Tensor | None = None) -> Tensor:
    """PGD on the `surrogate` with several step counts and random starts; returns for each image a version that `model`
    misclassifies if one was found, else the image. `early_stop` belongs to the common signature."""
    best = images.clone()
    seeds = generator if generator is not None else torch.arange(len(images), device=images.device)
    stands = torch.ones_like(labels, dtype=torch.bool)
    for turn in range(3):
        for steps in (_ASCENT // 4, _ASCENT, 3 * _ASCENT):
            rows = stands.nonzero().squeeze(1)
            if len(rows) == 0:
                return best
            with frozen(surrogate):
                points = pgd(surrogate, images[rows], labels[rows], eps=eps, norm=norm, steps=steps, loss="margin",
                             generator=derived(seeds[rows], 10 * turn + steps))
            fooled = predict(model, points) != labels[rows]
            best[rows[fooled]], stands[rows[fooled]] = points[fooled], False
    return best


def decision_attacks(model: Model, surrogate: nn.Module, images: Tensor, labels: Tensor, eps: float, norm: str,
                     queries: int, seeds: Tensor) -> Tensor:
    """RayS (L-inf only), then HopSkipJump from what the surrogate finds in larger balls, each with so many `queries`
    per image; the image itself where both end outside the ball."""
    parts = torch.arange(len(images), device=images.device).split(_MOST)
    return torch.cat([_attack_part(model, surrogate, images[part], labels[part], eps, norm, queries, seeds[part])
                      for part in parts]) if len(images) else images.clone()


def _attack_part(model: Model, surrogate: nn.Module, images: Tensor, labels: Tensor, eps: float, norm: str,
                 queries: int, seeds: Tensor) -> Tensor:
    points, rows = images.clone(), torch.arange(len(images), device=images.device)
    if norm == "linf":
        found, distances = rays(model, images, labels, queries=queries, eps=eps, generator=derived(seeds, 1))
        points[distances <= eps] = found[distances <= eps]
        rows = (distances > eps).nonzero().squeeze(1)
    if len(rows):
        points[rows] = _hop_from_surrogate(model, surrogate, images[rows], labels[rows], eps, norm, queries,
                                           seeds[rows])
    return points


def _hop_from_surrogate(model: Model, surrogate: nn.Module, images: Tensor, labels: Tensor, eps: float, norm: str,
                        queries: int, seeds: Tensor) -> Tensor:
    starts = images.clone()
    largest = widest(images, norm)
    for factor in (3.0, 2.0, 1.5):
        points = transfer_from_surrogate(model, images, labels, surrogate=surrogate, eps=min(factor * eps, largest),
                                         norm=norm, generator=seeds)
        fooled = predict(model, points) != labels
        starts[fooled] = points[fooled]
    points, _ = hop_skip_jump(model, images, labels, norm=norm, queries=queries, starts=starts, generator=seeds)
    inside = distance(points, images, norm) <= eps
    return torch.where(inside.reshape(-1, 1, 1, 1), points, images)


def _sample_around(images: Tensor, eps: float, norm: str, seeds: Tensor, turn: int,
                   generator: torch.Generator) -> Tensor:
    """Points drawn around the images, corners of the balls, and mixtures of the images; (3 N, C, H, W)."""
    wide = ball(images, min(_WIDE * eps, widest(images, norm)), norm)
    noise = uniform(derived(seeds, 100 + turn), images.shape[1:])
    partners = images[torch.randperm(len(images), generator=generator).to(images.device)]
    corners = wide.start((noise > 0.5).to(images.dtype))
    return torch.cat([wide.start(noise), corners, images + 2 * _MIXED * torch.rand(
        len(images), 1, 1, 1, generator=generator).to(images) * (partners - images)])
