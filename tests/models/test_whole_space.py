"""Properties of every architecture that the genes can say: it builds, learns, costs something, can be kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.catalogue.networks import BACKBONES
from parapet.genome import Genome
from parapet.models import build, load, save
from parapet.models.cost import count_flops, count_parameters
from tests.models.spaces import KNOWN, WORDS

SHAPES = ((1, 8, 8), (3, 5, 7), (1, 28, 28), (3, 16, 18))


@st.composite
def networks(draw: st.DrawFn) -> tuple[Genome, tuple[int, int, int]]:
    """A genome and a shape of images that its backbone can read."""
    backbone = draw(st.sampled_from(KNOWN["backbone"]))
    genome = Genome(backbone=backbone, width=draw(st.integers(3, 9)), depth=draw(st.integers(1, 2)),
                    denoiser_stage=draw(st.integers(1, BACKBONES[backbone].stages)),
                    **{name: draw(st.sampled_from(KNOWN[name])) for name in WORDS})
    return genome.canonical(), draw(st.sampled_from(SHAPES[2:] if backbone == "small_cnn" else SHAPES))


@settings(max_examples=80, deadline=None)
@given(drawn=networks())
def test_every_architecture_builds_trains_a_step_and_round_trips(
        tmp_path_factory: pytest.TempPathFactory, drawn: tuple[Genome, tuple[int, int, int]]) -> None:
    genome, shape = drawn
    generator = torch.Generator().manual_seed(0)
    network = build(genome, shape, 7, generator=generator)
    images = torch.rand(8, *shape, generator=generator).requires_grad_()
    assert count_flops(network, shape) > 0 and count_parameters(network) > 0

    first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d)).weight
    before = first.detach().clone()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    loss = torch.nn.functional.cross_entropy(network.train()(images), torch.arange(8) % 7)
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss) and not torch.equal(first.detach(), before)
    assert torch.isfinite(images.grad).all() and images.grad.abs().max() > 0

    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save(network.eval(), path)
    again = load(path)
    assert again.genome == genome
    with torch.no_grad():
        logits = network(images)
        assert logits.shape == (8, 7) and torch.isfinite(logits).all() and torch.equal(again(images), logits)
