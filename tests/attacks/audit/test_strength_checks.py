"""Strength checks: a PGD run computed by hand, and the verdicts of accuracies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import FULL, strength_checks
from parapet.attacks.audit.context import AuditContext
from parapet.attacks.noise import derived, uniform
from tests.attacks.linear import SHAPE, far_from_the_limits


def _standing(images: int, of: int = 100) -> Tensor:
    """Of so many images the first ones stand."""
    return torch.arange(of) < images


def test_the_ascent_takes_steps_of_a_tenth_of_the_radius_and_is_looked_at_seven_times() -> None:
    model, images, labels = far_from_the_limits()
    eps = 0.2
    numbers = strength_checks.steps(AuditContext(model, images, labels, "linf", eps, None, (), FULL))["numbers"]
    uphill = torch.where(labels == 0, -1.0, 1.0).reshape(-1, 1, 1, 1) * model.weight.detach().sign().reshape(SHAPE)
    points = images - eps + 2 * eps * uniform(derived(torch.arange(len(images)), 21), SHAPE)
    stands, accuracies, losses = torch.ones(len(images), dtype=torch.bool), {}, {}
    for step in range(101):
        logits = model(points).detach()
        lead = (logits.gather(1, 1 - labels[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)
        stands &= lead <= 0
        accuracies[step], losses[step] = float(stands.float().mean()), float(lead.mean())
        points = (points + 0.1 * eps * uphill).clamp(images - eps, images + eps)
    assert numbers["steps"] == [1, 2, 5, 10, 20, 50, 100]
    assert numbers["accuracy"] == pytest.approx([accuracies[step] for step in numbers["steps"]])
    assert numbers["loss"] == pytest.approx([losses[step] for step in numbers["steps"]], abs=1e-4)
    assert losses[9] < losses[10] - 0.01  # on the way, where another look would see another loss


class _Scripted(SimpleNamespace):
    """A context of 100 images in which as many survive PGD as `left` says, radius after radius."""

    def __init__(self, left: list[int]) -> None:
        super().__init__(images=torch.zeros(100, 1, 4, 4), norm="linf", eps=0.1, budget=FULL, left=left, asked=[])

    def survivors(self, attack: object, *, eps: float, steps: int, loss: str, among: Tensor | None = None) -> Tensor:
        self.asked.append((eps, loss, len(self.images) if among is None else int(among.sum())))
        stands = _standing(self.left[sorted({radius for radius, *_ in self.asked}).index(eps)])
        return stands if among is None else stands & among


@pytest.mark.parametrize(("left", "verdict"), [
    ([60, 40, 20, 4, 0], "pass"), ([60, 40, 20, 4, 4], "pass"), ([60, 40, 20, 10, 6], "warn"),
    ([60, 40, 30, 30, 18], "warn"), ([60, 40, 30, 30, 22], "fail"), ([60, 40, 41, 4, 0], "pass"),
    ([60, 40, 43, 4, 0], "warn"), ([60, 40, 46, 4, 0], "fail"),
])
def test_the_accuracy_must_fall_to_nothing_and_rise_nowhere(left: list[int], verdict: str) -> None:
    """More than 5 points left at the largest radius are a warning and more than 20 a fail; so are rises of 2 and 5."""
    context: Any = _Scripted(left)
    found = strength_checks.radius(context)
    assert found["verdict"] == verdict
    assert found["numbers"]["eps"] == pytest.approx([0.0, 0.05, 0.1, 0.2, 0.4, 0.5])
    assert found["numbers"]["accuracy"] == pytest.approx([1.0, *(one / 100 for one in left)])


def test_each_radius_is_attacked_with_both_losses_and_the_second_meets_what_stands() -> None:
    context: Any = _Scripted([60, 40, 20, 4, 0])
    strength_checks.radius(context)
    both = [one for eps, left in zip((0.05, 0.1, 0.2, 0.4), context.left)
            for one in ((eps, "margin", 100), (eps, "ce", left))]
    assert context.asked == [*both, (0.5, "margin", 100)]
