"""Carlini and Wagner's attack: the paper's settings, its loss under Adam, its search for the constant, its end."""

from __future__ import annotations

import inspect
import sys

import pytest
import torch
from torch import Tensor

from parapet.attacks import carlini_wagner
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, Linear, far_from_the_limits, recording


def test_the_settings_are_those_of_the_authors() -> None:
    """`l2_attack.py` of their code: 9 binary searches, learning rate 0.01, confidence 0, first constant 0.001."""
    defaults = {name: one.default for name, one in inspect.signature(carlini_wagner).parameters.items()}
    assert {name: defaults[name] for name in ("norm", "searches", "step_size", "confidence", "constant")} == {
        "norm": "l2", "searches": 9, "step_size": 0.01, "confidence": 0.0, "constant": 1e-3}


def test_the_descent_is_adam_on_the_loss_of_the_paper() -> None:
    model, images, labels = far_from_the_limits(6)
    recorded, seen = recording(model)
    carlini_wagner(recorded, images, labels, steps=60, searches=1, constant=0.5, step_size=0.02)
    logits = model(images).detach()
    # The constant is in units of logits that lie ten apart.
    constants = 0.5 * 10 / (logits.amax(1) - logits.amin(1))
    free = torch.atanh((2 * images - 1) * (1 - 1e-6))
    first, second = torch.zeros_like(images), torch.zeros_like(images)
    for step, points in enumerate(seen[:12], 1):
        free.requires_grad_()
        expected = (torch.tanh(free) + 1) / 2
        assert torch.allclose(points, expected, atol=1e-5)
        logits = model(expected)
        leads = logits.gather(1, labels[:, None]) - logits.gather(1, 1 - labels[:, None])
        loss = ((expected - images) ** 2).sum() + (constants * leads.squeeze(1).clamp(min=0)).sum()
        gradient, = torch.autograd.grad(loss, free)
        # Kingma and Ba 2015, algorithm 1, with their constants.
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        free = free.detach() - 0.02 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    assert len(seen) > 12


def test_the_constant_grows_tenfold_until_it_works_and_is_bisected_then(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[float]] = []

    def descend(model: object, images: Tensor, labels: Tensor, factor: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        tried.append(factor.tolist())
        return images, torch.where(factor >= torch.tensor([3.0, 0.2]), 0.5, torch.inf).double()
    monkeypatch.setattr(sys.modules["parapet.attacks.minimum_norm.carlini_wagner"], "_descend", descend)
    # Logits that lie ten apart, as in the paper; a confidence, so that nothing is drawn back to the boundary.
    carlini_wagner(lambda batch: torch.tensor([[10.0, 0.0]]).expand(len(batch), 2), torch.full((2, *SHAPE), 0.5),
                   torch.tensor([0, 0]), searches=6, constant=1.0, confidence=1.0)
    assert [one for one, _ in tried] == pytest.approx([1.0, 10.0, 5.5, 3.25, 2.125, 2.6875])
    assert [other for _, other in tried] == pytest.approx([1.0, 0.5, 0.25, 0.125, 0.1875, 0.21875])


def test_a_loss_that_stalls_at_two_looks_ends_the_run() -> None:
    """Of 100 steps every tenth looks: at the 20th and the 30th the loss is as before. The loop sees it at step 32."""
    asked: list[int] = []

    def model(batch: Tensor) -> Tensor:
        asked.append(len(batch))
        return torch.tensor([[1.0, 0.0]]).expand(len(batch), 2) + 0 * batch.sum()
    carlini_wagner(model, torch.full((3, *SHAPE), 0.5), torch.zeros(3, dtype=torch.long), steps=100, searches=1)
    assert asked == [3] * (1 + 32)


@pytest.mark.parametrize("options", [{"steps": 0}, {"searches": 0}, {"step_size": 0.0}, {"constant": 0.0},
                                     {"confidence": -0.5}, {"confidence": float("nan")}])
def test_options_out_of_range_are_told(options: dict) -> None:
    with pytest.raises(InputError, match="step_size and constant above 0, confidence at least 0"):
        carlini_wagner(Linear(torch.ones(16), 0.0), torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1]), **options)
