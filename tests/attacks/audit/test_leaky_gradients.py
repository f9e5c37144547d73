"""Gradients pass inactive units, and values do not change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parapet.attacks.audit.leaky_gradients import LeakyGradients

ONE_SIDED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu, "torch.relu": torch.relu, "module": nn.ReLU(), "in place": nn.ReLU(inplace=True),
    "threshold": nn.Threshold(0, 0), "clamp": lambda features: features.clamp(min=0),
    "clamp_min": lambda features: torch.clamp_min(features, 0),
    "leaky": lambda features: functional.leaky_relu(features, 0),
    "gelu": lambda features: functional.gelu(30 * features) / 30,
    "maximum": lambda features: torch.maximum(features, torch.zeros_like(features)),
    "max": lambda features: torch.max(torch.tensor(0.0), features),
    "where": lambda features: torch.where(features > 0, features, 0.0),
    "mask": lambda features: features * (features > 0),
    "mask of numbers": lambda features: (features > 0).float() * features,
}


@pytest.mark.parametrize("leak", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("name", ONE_SIDED)
def test_the_gradient_of_a_unit_that_is_off_is_the_share_that_it_lets_through(name: str, leak: float) -> None:
    activation = ONE_SIDED[name]
    features = torch.tensor([-2.0, -0.5, 0.5, 3.0], requires_grad=True)
    with LeakyGradients(leak):
        answer = activation(features * 1.0)
        slope, = torch.autograd.grad(answer.sum(), features)
    assert answer.tolist() == pytest.approx([0.0, 0.0, 0.5, 3.0])
    assert slope.tolist() == pytest.approx([leak, leak, 1.0, 1.0], abs=1e-5)
    answer = activation(features * 1.0)
    assert torch.autograd.grad(answer.sum(), features)[0].tolist() == pytest.approx([0.0, 0.0, 1.0, 1.0], abs=1e-5)


@pytest.mark.parametrize("inplace", [False, True])
def test_both_flat_sides_of_relu6_let_gradients_through(inplace: bool) -> None:
    features = torch.tensor([-2.0, 3.0, 9.0], requires_grad=True)
    with LeakyGradients(0.25):
        answer = nn.ReLU6(inplace=inplace)(features * 1.0)
    assert answer.tolist() == [0.0, 3.0, 6.0]
    assert torch.autograd.grad(answer.sum(), features)[0].tolist() == [0.25, 1.0, 0.25]


def test_a_reduction_and_a_product_of_two_numbers_are_left_as_they_are() -> None:
    features = torch.tensor([[1.0, 2.0], [4.0, 3.0]], requires_grad=True)
    with LeakyGradients(0.5):
        largest = features.max(1).values.sum() + (features * 3.0).sum()
        slope, = torch.autograd.grad(largest, features)
    assert slope.tolist() == [[3.0, 4.0], [4.0, 3.0]]


def test_a_whole_network_answers_alike(digits) -> None:
    images, _ = digits.split("validation", limit=8).all()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(2), nn.SiLU(), nn.Flatten(),
                            nn.LazyLinear(6), nn.Sigmoid()).eval()
    images.requires_grad_()
    expected = network(images)
    with LeakyGradients(0.3):
        answer = network(images)
        slope, = torch.autograd.grad(answer.sum(), images)
    assert torch.allclose(answer, expected, atol=1e-6) and torch.isfinite(slope).all()
    with LeakyGradients(0.3), torch.no_grad():
        assert torch.equal(network(images), expected)


def test_infinite_numbers_and_named_arguments_are_taken() -> None:
    features = torch.tensor([-torch.inf, 2.0], requires_grad=True)
    with LeakyGradients(0.5):
        answer = torch.where(torch.tensor([True, False]), features * 1.0, 3.0)
        assert answer.tolist() == [-torch.inf, 3.0]
        assert functional.relu6(input=features * 1.0).tolist() == [0.0, 2.0]
