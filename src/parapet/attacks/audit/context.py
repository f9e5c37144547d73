"""What the checks of one audit share: the correctly classified images, and each attack's result, computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.adaptive import is_random
from parapet.attacks.balls import contains
from parapet.attacks.evaluation_state import tensor_digest
from parapet.attacks.gradient.a3 import Round, a3
from parapet.attacks.gradient.apgd import apgd
from parapet.attacks.gradient.fgsm import fgsm
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, first_answers, frozen, in_halves, predict
from parapet.attacks.noise import Generator, derived, image_seeds
from parapet.attacks.objectives import cross_entropy
from parapet.data.sampling import stratified

_RESTARTS = 3
# Images that are attacked together, which bounds memory.
_TOGETHER = 512


def audited_rows(labels: Tensor, count: int, seed: int) -> Tensor:
    """Which `count` of the images with these `labels` (N,) an audit looks at: drawn from `seed`, stratified by label;
    int64 (n,) on their device, ascending."""
    return torch.from_numpy(stratified(labels.cpu().numpy(), count, seed)).to(labels.device)


def state_digest(model: Model) -> str:
    """SHA-256 of a module's parameters and buffers; empty for a plain callable."""
    return tensor_digest(*model.parameters(), *model.buffers()) if isinstance(model, nn.Module) else ""


@dataclass(frozen=True)
class AuditBudget:
    """How much work the audit may spend per image (gradient steps, queries), and on how many images.

    `rounds` are those of A3 (None: the default of the norm); an empty tuple leaves A3 out, as 0 `targets` leave out
    targeted Auto-PGD. `stages` names the attacks that the adaptive stage may run (None: all that the doubts call for).
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
# All candidates of a search meet the same attacks, otherwise their numbers could not be compared: no adaptive stage.
CHEAP = AuditBudget(rounds=(), targets=0, stages=())


class AuditContext:
    """The audited images (n, C, H, W) that the model classifies correctly, and which of them survive, bool (n,).

    A point breaks its image if it lies in the ball and in [0, 1] and the model misclassifies it.
    """

    def __init__(self, model: Model, images: Tensor, labels: Tensor, norm: str, eps: float,
                 generator: Generator | None, surrogates: Sequence[Model], budget: AuditBudget,
                 loader: Callable[[], Model] | None = None) -> None:
        logits = first_answers(model, images, labels, len(images))
        self.correct = logits.argmax(1) == labels
        self.model, self.norm, self.eps = model, norm, eps
        self.surrogates, self.budget, self.loader = surrogates, budget, loader
        self.images, self.labels = images[self.correct], labels[self.correct]
        self.seeds = image_seeds(len(images), generator, images.device)[self.correct]
        self.standing = torch.ones_like(self.labels, dtype=torch.bool)
        self.broken = self.images.clone()
        # Of the images `copied_rows`, every attack's points inside the ball: copies and single draws are tested there.
        self.tried: list[Tensor] = []
        self.logits = logits[self.correct]
        self.state = state_digest(model)

    def survivors(self, attack: Callable[..., Tensor], *, stream: int = 0, eps: float | None = None,
                  model: Model | None = None, among: Tensor | None = None, **options: Any) -> Tensor:
        """Which images survive `attack`, bool (n,).

        The attack gets `model` if given; the audited model judges its points. With `among`, bool (n,), only those
        images are attacked and the others count as surviving. `stream` numbers the attack's random numbers.
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
        return self.try_points(points, radius)

    def try_points(self, points: Tensor, eps: float | None = None) -> Tensor:
        """Which images survive their point of `points` (n, C, H, W), bool (n,); a point that leaves the ball of radius
        `eps` breaks nothing. Broken images no longer stand."""
        radius = self.eps if eps is None else eps
        inside = contains(points, self.images, self.norm, radius)
        survived = (predict(self.model, points) == self.labels) | ~inside
        if radius == self.eps and (self.loader is not None or is_random(self.model)):
            self.tried.append(points[self.copied_rows])
        if radius <= self.eps:
            first = self.standing & ~survived
            self.broken[first] = points[first]
            self.standing &= survived
        return survived

    def try_points_at(self, rows: Tensor, points: Tensor) -> Tensor:
        """`try_points` of `points` (m, C, H, W) for the images `rows` (m,) and of all other images unchanged."""
        tried = self.images.clone()
        tried[rows] = points
        return self.try_points(tried)

    def mark_broken(self, rows: Tensor, points: Tensor, fooled: Tensor) -> None:
        """Count the images `rows` (m,) as broken by `points` (m, C, H, W), if inside the ball, where `fooled` (m,) says
        that the model misclassifies them when queried in another way, or that a copy of it does."""
        inside = contains(points, self.images[rows], self.norm, self.eps)
        first = self.standing[rows] & fooled & inside
        self.broken[rows[first]] = points[first]
        self.standing[rows[first]] = False

    @cached_property
    def copied_rows(self) -> Tensor:
        """The images (m,) on which copies of the model are attacked."""
        return audited_rows(self.labels, self.budget.copied_images, seed=0)

    def survival_string(self) -> str:
        """One character for each image of the audit: "1" if it was classified correctly and nothing broke it."""
        marks = self.correct.clone()
        marks[self.correct] = self.standing
        return "".join(map(str, marks.int().tolist()))

    def adversarial(self, images: Tensor) -> Tensor:
        """`images`, all of the audit (N, C, H, W), with the broken ones replaced by their adversarial versions."""
        points = images.clone()
        points[self.correct] = self.broken
        return points

    @cached_property
    def fgsm(self) -> Tensor:
        """Which images survive FGSM."""
        return self.survivors(fgsm)

    @cached_property
    def pgd_ce(self) -> Tensor:
        """Which images survive PGD on plain cross-entropy, rounding included: what other tools run."""
        return self.survivors(pgd, steps=self.budget.pgd_steps, loss=cross_entropy)

    @cached_property
    def pgd_margin(self) -> Tensor:
        """Which images survive PGD on the margin."""
        return self.survivors(pgd, steps=self.budget.pgd_steps, loss="margin")

    @cached_property
    def pgd_restarts(self) -> tuple[Tensor, Tensor]:
        """Which images survive PGD on cross-entropy and on the margin, each with a few restarts beside the run above.

        The restarts are fair to cross-entropy: on small honest networks one run of it stays points behind the margin.
        """
        options: dict[str, Any] = {"steps": self.budget.pgd_steps, "restarts": _RESTARTS, "stream": 41}
        return (self.pgd_ce & self.survivors(pgd, loss=cross_entropy, among=self.pgd_ce, **options),
                self.pgd_margin & self.survivors(pgd, loss="margin", among=self.pgd_margin, **options))

    @cached_property
    def white_box(self) -> Tensor:
        """Which images survive the white-box attacks: PGD on both losses, A3 and targeted Auto-PGD.

        If a budget leaves out the last two, restarts of PGD replace them.
        """
        stands = self.pgd_ce & self.pgd_margin
        if self.budget.rounds == () and not self.budget.targets:
            return self.pgd_restarts[0] & self.pgd_restarts[1]
        if self.budget.rounds != ():
            stands &= self.survivors(a3, stream=14, among=stands, rounds=self.budget.rounds)
        if self.budget.targets:
            stands &= self.survivors(apgd, stream=15, among=stands, steps=self.budget.targeted_steps,
                                     targets=self.budget.targets)
        return stands
