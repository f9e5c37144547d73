"""Inherited weights: what fits is copied, growth changes no answer, shrinking keeps the first units."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from parapet.genome import Genome
from parapet.models.inheritance import inherit
from parapet.models.network import Network, build

_SHAPE = (1, 8, 8)


def _trained(genome: Genome, seed: int = 0) -> Network:
    """A network whose batch norms and biases are no longer at their starting values."""
    generator = torch.Generator().manual_seed(seed)
    network = build(genome, _SHAPE, 10, generator=generator)
    with torch.no_grad():
        for name, value in network.named_buffers():
            if "running" in name:
                value.uniform_(0.5, 1.5, generator=generator)
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def _fresh(genome: Genome) -> Network:
    return build(genome, _SHAPE, 10, generator=torch.Generator().manual_seed(99)).eval()


def _images() -> torch.Tensor:
    return torch.rand(16, *_SHAPE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("backbone", ["plain", "residual", "separable", "vit"])
def test_the_same_shape_inherits_everything(backbone: str) -> None:
    parent = _trained(Genome(backbone=backbone, width=8, depth=2, loss="pgd").canonical())
    child = _fresh(replace(parent.genome, steps=2, learning_rate=0.1))
    inherit(child, parent)
    assert torch.equal(child(_images()), parent(_images()))


@pytest.mark.parametrize("backbone", ["plain", "residual", "separable", "preact_resnet", "wide_resnet"])
def test_a_wider_child_gives_the_same_answers(backbone: str) -> None:
    """Net2Net's promise, here by new units that no inherited one hears."""
    parent = _trained(Genome(backbone=backbone, width=8, depth=2).canonical())
    child = _fresh(replace(parent.genome, width=12))
    inherit(child, parent)
    torch.testing.assert_close(child(_images()), parent(_images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", ["residual", "preact_resnet"])
def test_a_deeper_residual_child_gives_the_same_answers(backbone: str) -> None:
    parent = _trained(Genome(backbone=backbone, width=8, depth=1).canonical())
    child = _fresh(replace(parent.genome, depth=3))
    inherit(child, parent)
    torch.testing.assert_close(child(_images()), parent(_images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", ["plain", "separable"])
def test_a_deeper_child_without_shortcuts_passes_rectified_features_on(backbone: str) -> None:
    """A ReLU after an identity changes nothing; batch norm's epsilon does, a little."""
    parent = _trained(Genome(backbone=backbone, width=8, depth=1, activation="relu").canonical())
    child = _fresh(replace(parent.genome, depth=2))
    inherit(child, parent)
    torch.testing.assert_close(child(_images()), parent(_images()), rtol=1e-3, atol=1e-3)


def test_a_narrower_child_keeps_the_first_channels() -> None:
    parent = _trained(Genome(backbone="plain", width=8, depth=1).canonical())
    child = _fresh(replace(parent.genome, width=4))
    count = inherit(child, parent)
    assert torch.equal(child.stage1[0][0].convolution.weight, parent.stage1[0][0].convolution.weight[:4, :4])
    assert torch.equal(child.head[-1].weight, parent.head[-1].weight[:, :child.head[-1].in_features])
    # all but the normalisation's own numbers
    assert count == sum(value.numel() for name, value in child.state_dict().items() if "normalise" not in name)


def test_a_denoiser_of_another_kind_starts_afresh() -> None:
    parent = _trained(Genome(backbone="plain", width=8, denoiser="mean").canonical())
    child = _fresh(replace(parent.genome, denoiser="median"))
    before = {name: value.clone() for name, value in child.denoiser.state_dict().items()}
    inherit(child, parent)
    assert all(torch.equal(value, before[name]) for name, value in child.denoiser.state_dict().items())
