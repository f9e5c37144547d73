"""What the checks share: the images that the model gets right, and the outcome of each attack, computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.adaptive import is_random
from parapet.attacks.balls import contains
from parapet.attacks.gradient.a3 import Round, a3
from parapet.attacks.gradient.apgd import apgd
from parapet.attacks.gradient.fgsm import fgsm
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, first_answers, frozen, in_halves, predict
from parapet.attacks.noise import Generator, derived, image_seeds
from parapet.attacks.objectives import cross_entropy
from parapet.data.sampling import stratified


def audited_rows(labels: Tensor, count: int, seed: int) -> Tensor:
    """Which `count` of the images with these `labels` (N,) an audit looks at: a draw from `seed`, stratified by label;
    int64 (n,) on their device, ascending."""
    return torch.from_numpy(stratified(labels.cpu().numpy(), count, seed)).to(labels.device)


def state_of(model: Model) -> str:
    """SHA-256 of the names, shapes and values of a module's parameters and buffers; empty for a bare callable."""
    found = hashlib.sha256()
    if not isinstance(model, nn.Module):
        return ""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + values.numpy().tobytes())
    return found.hexdigest()


_RESTARTS = 3
# Images that are attacked at once, so that memory is bounded.
_TOGETHER = 512


@dataclass(frozen=True)
class AuditBudget:
    """How much work the audit may spend on an image: gradient steps, forward passes, images for the dearest attack.

    `rounds` are those of A3 (None: of the norm); with an empty tuple, as with 0 `targets`, that attack is left out.
    `stages` names those of the adaptive stage (None: all that the doubts ask for).
    """

    pgd_steps: int = 40
    restarts: int = 10
    rounds: tuple[Round, ...] | None = None
    targeted_steps: int = 50
    targets: int = 3
    square_queries: int = 1000
    decision_queries: int = 1000
    decision_images: int = 50
    noise_draws: int = 1000
    varied_images: int = 48
    copied_images: int = 100
    deployed_images: int = 16
    stages: tuple[str, ...] | None = None
    power_images: int = 48


FULL = AuditBudget()
# Every candidate of a search meets the same attacks, or their numbers could not be compared: so no adaptive stage.
CHEAP = AuditBudget(rounds=(), targets=0, stages=())


class Scene:
    """The audited images (those that the model gets right) and what survives each attack, bool (n,).

    A point counts as broken where the model gets it wrong, it lies in the ball and in [0, 1].
    """

    def __init__(self, model: Model, images: Tensor, labels: Tensor, norm: str, eps: float,
                 generator: Generator | None, surrogates: Sequence[Model], budget: AuditBudget,
                 loader: Callable[[], Model] | None = None) -> None:
        logits = first_answers(model, images, labels, len(images))
        self.right = logits.argmax(1) == labels
        self.model, self.norm, self.eps = model, norm, eps
        self.surrogates, self.budget, self.loader = surrogates, budget, loader
        self.images, self.labels = images[self.right], labels[self.right]
        self.seeds = image_seeds(len(images), generator, images.device)[self.right]
        self.standing = torch.ones_like(self.labels, dtype=torch.bool)
        self.broken = self.images.clone()
        # Of the images `copied`, the points of every attack inside the ball: copies and single draws are asked there.
        self.tried: list[Tensor] = []
        self.logits = logits[self.right]
        self.state = state_of(model)

    def survives(self, attack: Callable[..., Tensor], *, stream: int = 0, eps: float | None = None,
                 model: Model | None = None, among: Tensor | None = None, **options: Any) -> Tensor:
        """Which images the model still gets right after `attack`, which sees `model` if another one is given.

        With `among`, bool (n,), only those images are attacked, and the others count as surviving.
        """
        radius = self.eps if eps is None else eps
        rows = slice(None) if among is None else among.nonzero().squeeze(1)
        points = self.images.clone()

        def run(images: Tensor, labels: Tensor, seeds: Tensor) -> Tensor:
            return attack(model or self.model, images, labels, eps=radius, norm=self.norm, early_stop=True,
                          generator=seeds, **options)
        if among is None or bool(among.any()):
            with frozen(model or self.model):
                every = torch.arange(len(points), device=points.device)[rows]
                for part in every.split(_TOGETHER):
                    points[part] = in_halves(run, self.images[part], self.labels[part],
                                             derived(self.seeds[part], stream))
        return self.judge(points, radius)

    def judge(self, points: Tensor, eps: float | None = None) -> Tensor:
        """Which images survive as `points` (n, C, H, W), tried inside the ball of radius `eps`."""
        radius = self.eps if eps is None else eps
        inside = contains(points, self.images, self.norm, radius)
        survived = (predict(self.model, points) == self.labels) | ~inside
        if radius == self.eps and (self.loader is not None or is_random(self.model)):
            self.tried.append(points[self.copied])
        if radius <= self.eps:
            first = self.standing & ~survived
            self.broken[first] = points[first]
            self.standing &= survived
        return survived

    def condemn(self, rows: Tensor, points: Tensor, fooled: Tensor) -> None:
        """Count the images `rows` (m,) as broken by `points` (m, C, H, W) where `fooled` (m,) says that the model gets
        them wrong, asked in another way or as another copy; only inside the ball."""
        inside = contains(points, self.images[rows], self.norm, self.eps)
        first = self.standing[rows] & fooled & inside
        self.broken[rows[first]] = points[first]
        self.standing[rows[first]] = False

    @cached_property
    def copied(self) -> Tensor:
        """The images (m,) on which copies of the model are attacked."""
        return audited_rows(self.labels, self.budget.copied_images, seed=0)

    def survivors(self) -> str:
        """One mark for each image of the audit: "1" where it was right and nothing broke it."""
        marks = self.right.clone()
        marks[self.right] = self.standing
        return "".join(map(str, marks.int().tolist()))

    def adversarial(self, images: Tensor) -> Tensor:
        """`images`, all of the audit (N, C, H, W), those replaced that something broke."""
        points = images.clone()
        points[self.right] = self.broken
        return points

    @cached_property
    def fgsm(self) -> Tensor:
        """One signed step."""
        return self.survives(fgsm)

    @cached_property
    def pgd_ce(self) -> Tensor:
        """PGD on cross-entropy as it stands, rounding and all: what others run."""
        return self.survives(pgd, steps=self.budget.pgd_steps, loss=cross_entropy)

    @cached_property
    def pgd_margin(self) -> Tensor:
        """PGD on the margin."""
        return self.survives(pgd, steps=self.budget.pgd_steps, loss="margin")

    @cached_property
    def pgd_restarts(self) -> tuple[Tensor, Tensor]:
        """PGD on cross-entropy and on the margin, each with a few restarts beside the one above.

        They give cross-entropy a fair chance: on small honest nets a single run of it stays points behind the margin.
        """
        options: dict[str, Any] = {"steps": self.budget.pgd_steps, "restarts": _RESTARTS, "stream": 41}
        return (self.pgd_ce & self.survives(pgd, loss=cross_entropy, among=self.pgd_ce, **options),
                self.pgd_margin & self.survives(pgd, loss="margin", among=self.pgd_margin, **options))

    @cached_property
    def white(self) -> Tensor:
        """The white box: PGD on both losses, A3 and targeted Auto-PGD. What an honest net keeps, it keeps under this.

        Where a budget leaves out the last two, restarts of PGD stand in for them.
        """
        stands = self.pgd_ce & self.pgd_margin
        if self.budget.rounds == () and not self.budget.targets:
            return self.pgd_restarts[0] & self.pgd_restarts[1]
        if self.budget.rounds != ():
            stands &= self.survives(a3, stream=14, among=stands, rounds=self.budget.rounds)
        if self.budget.targets:
            stands &= self.survives(apgd, stream=15, among=stands, steps=self.budget.targeted_steps,
                                    targets=self.budget.targets)
        return stands
