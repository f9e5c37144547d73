"""Regularisers by hand, on linear models by formula, and through double backpropagation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from parapet.attacks.balls import distance
from parapet.catalogue.crafting import REGULARISERS
from parapet.catalogue.spec import resolve
from parapet.training.losses import Logits
from parapet.training.regularisers import (
    gradient_alignment,
    input_gradient,
    logit_squeezing,
    noisy_images,
)
from tests.training.losses.two_pixels import Pixels, image, small_network

SEEDS = torch.arange(6)


def _case(classes: int = 3) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return (small_network(torch.Generator().manual_seed(0), classes), torch.rand(6, 1, 4, 4, generator=generator),
            torch.randint(classes, (6,), generator=generator))


def test_the_input_gradient_by_hand() -> None:
    # Logits (1, 0), label 0, q = 1 - p_0 = 1 / (1 + e): the gradient of cross-entropy is (-q, q), its square 2 q^2.
    # The other image, logits (0, 0), has q = 1/2.
    q = 1 / (1 + math.e)
    images = torch.cat([image(1.0, 0.0), image(0.0, 0.0)])
    value = input_gradient(Pixels(), images, torch.tensor([0, 0]))
    assert value.item() == pytest.approx((2 * q**2 + 0.5) / 2, rel=1e-5)


def test_the_input_gradient_of_a_linear_model_is_its_formula() -> None:
    # d CE / dx = W^T (p - onehot).
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 16, generator=generator)
    images, labels = torch.rand(5, 1, 4, 4, generator=generator), torch.tensor([0, 1, 2, 1, 0])
    chances = (images.flatten(1) @ weight.T).softmax(1) - torch.eye(3)[labels]
    value = input_gradient(lambda points: points.flatten(1) @ weight.T, images, labels)
    assert value.item() == pytest.approx((chances @ weight).square().sum(1).mean().item(), rel=1e-5)


def test_the_gradients_of_a_linear_model_of_two_classes_are_aligned() -> None:
    weight = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    images, labels = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 2
    for factor in (1.0, 1e-6, 20.0):
        value = gradient_alignment(lambda points, factor=factor: factor * points.flatten(1) @ weight.T, images, labels,
                                   eps=0.3, seeds=SEEDS)
        assert value.item() == pytest.approx(0.0, abs=1e-6)


def test_opposite_gradients_have_an_alignment_of_two() -> None:
    # Logit 0 is |x - 1/2|: its slope is -1 below 1/2 and 1 above, whatever the label's probability.
    def bent(images: torch.Tensor) -> torch.Tensor:
        folded = (images.flatten(1)[:, :1] - 0.5).abs()
        return torch.cat([folded, torch.zeros_like(folded)], 1)

    points, mirrored = image(0.4).requires_grad_(), image(0.6).requires_grad_()
    logits = Logits(clean=bent(points), noisy=bent(mirrored))
    value = gradient_alignment(bent, points, torch.tensor([0]), eps=0.3, noisy=mirrored, logits=logits)
    assert value.item() == pytest.approx(2.0)


def test_an_image_without_a_gradient_counts_nothing() -> None:
    value = gradient_alignment(Pixels(factor=0.0), torch.rand(6, 1, 4, 4), torch.zeros(6, dtype=torch.int64), eps=0.3,
                               seeds=SEEDS)
    assert value.item() == 0


def test_logit_squeezing_by_hand() -> None:
    # 3^2 + 4^2 = 25 for the clean image, 1 for the adversarial one.
    assert logit_squeezing(Pixels(), image(3.0, 4.0), torch.tensor([0])).item() == 25
    logits = Logits(clean=torch.tensor([[3.0, 4.0]]), adversarial=torch.tensor([[0.0, 1.0]]))
    assert logit_squeezing(Pixels(), image(3.0, 4.0), torch.tensor([0]), logits=logits).item() == 13


@pytest.mark.parametrize("norm, eps", [("linf", 0.1), ("l2", 0.5)])
def test_the_noise_lies_in_the_ball_and_belongs_to_the_seed(norm: str, eps: float) -> None:
    images = _case()[1]
    noisy = noisy_images(images, eps, norm, SEEDS)
    assert (distance(noisy, images, norm) <= eps).all() and noisy.min() >= 0 and noisy.max() <= 1
    assert torch.equal(noisy_images(images.flip(0), eps, norm, SEEDS.flip(0)).flip(0), noisy)


@pytest.mark.parametrize("name", list(REGULARISERS))
def test_each_is_a_scalar_above_zero_that_reaches_every_weight(name: str) -> None:
    network, images, labels = _case()
    value = resolve(REGULARISERS[name].function)(network, images, labels, images, eps=0.3, norm="linf", seeds=SEEDS)
    assert value.shape == () and value > 0
    gradients = torch.autograd.grad(value, [parameter for parameter in network.parameters() if parameter.dim() > 1])
    assert all(torch.isfinite(gradient).all() and (gradient != 0).any() for gradient in gradients)
    assert not images.requires_grad


@pytest.mark.parametrize("name", ["input_gradient", "gradient_alignment"])
def test_double_backpropagation_agrees_with_finite_differences(name: str) -> None:
    network, images, labels = _case()
    network, images = network.double(), images.double()

    def value() -> torch.Tensor:
        return resolve(REGULARISERS[name].function)(network, images, labels, eps=0.3, norm="linf", seeds=SEEDS)

    weight = network[6].weight
    slope = torch.autograd.grad(value(), weight)[0][0, 0].item()
    ends = []
    for move in (1e-5, -2e-5):
        with torch.no_grad():
            weight[0, 0] += move
        ends.append(value().item())
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-8)
