"""Defensive distillation by hand, and the attack that it does not stop."""

from __future__ import annotations

import math

import pytest
import torch

from parapet.attacks import pgd
from parapet.attacks.gradients import input_gradient
from parapet.attacks.objectives import cross_entropy
from parapet.training.losses import distillation, softened
from tests.training.losses.two_pixels import Pixels, image


def test_the_teacher_is_trained_at_its_temperature() -> None:
    # Logits (1, 0) at temperature 2 are (0.5, 0).
    loss, _ = softened(Pixels(), image(1.0, 0.0), torch.tensor([0]), temperature=2.0)
    assert float(loss) == pytest.approx(2 * math.log(1 + math.exp(-0.5)), rel=1e-6)


def test_one_image_by_hand() -> None:
    # At temperature 2 the teacher, logits (4, 0), says p = sigmoid(2); the student, logits (1, 0), q = sigmoid(0.5).
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-0.5))
    loss, _ = distillation(Pixels(), image(1.0, 0.0), torch.tensor([1]), teacher=Pixels(factor=4.0), temperature=2.0)
    assert float(loss) == pytest.approx(2 * (-p * math.log(q) - (1 - p) * math.log(1 - q)), rel=1e-6)


def test_the_teacher_learns_nothing() -> None:
    teacher, student = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    loss, _ = distillation(student, torch.rand(3, 2), torch.zeros(3, dtype=torch.int64), teacher=teacher)
    loss.backward()
    assert teacher.weight.grad is None and student.weight.grad is not None


def test_cross_entropy_sees_no_gradient_and_the_margin_breaks_it() -> None:
    # What distillation at a high temperature leaves behind: right answers whose logits lie hundreds apart.
    model, clean, label = Pixels(factor=1000.0), image(0.6, 0.4), torch.tensor([0])
    _, _, gradient = input_gradient(model, clean, label, cross_entropy)
    assert (gradient == 0).all()
    found = pgd(model, clean, label, eps=0.15, loss="margin", steps=10, generator=torch.Generator().manual_seed(0))
    assert int(model(found).argmax(1)) == 1
