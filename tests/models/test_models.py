"""Networks: every choice builds and runs, filters and denoisers by hand, weights round trip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.attacks.inputs import frozen
from parapet.catalogue.networks import DENOISERS
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build, load, read_metadata, save
from parapet.models.backbones import NormalisedConvolution
from parapet.models.cost import count_flops, count_parameters
from parapet.models.denoisers import DotProductNonLocalDenoiser, GaussianNonLocalDenoiser
from parapet.models.filters import BitDepth, LearnedSmoothing
from parapet.models.median import median3x3
from parapet.models.network import Network
from parapet.search.network_space import SearchSpace

SPACE = SearchSpace()
genomes = st.tuples(*(st.integers(0, len(gene.choices) - 1) for gene in SPACE.genes)).map(SPACE.decode)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40, deadline=None)
@given(genome=genomes, shape=st.sampled_from([(1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 5, 7)]))
def test_every_genome_builds_runs_and_costs_something(genome: Genome, shape: tuple[int, int, int]) -> None:
    network = build(genome, shape, 7, generator=_generator()).eval()
    with torch.no_grad():
        logits = network(torch.rand(3, *shape))
    assert logits.shape == (3, 7) and torch.isfinite(logits).all()
    assert count_flops(network, shape) > 0 and count_parameters(network) > 0


def test_one_generator_gives_one_network_and_the_global_one_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = (build(Genome(), (1, 8, 8), 10, generator=_generator(5)) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    other = build(Genome(), (1, 8, 8), 10, generator=_generator(6))
    assert not torch.equal(first.stem[1].convolution.weight, other.stem[1].convolution.weight)


def test_the_median_is_torch_s_median() -> None:
    images = torch.rand(2, 3, 6, 5, generator=_generator())
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    expected = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4).median(-1).values
    assert torch.equal(median3x3(images), expected)


def test_the_median_s_gradient_goes_to_the_median() -> None:
    images = torch.rand(2, 2, 5, 4, generator=_generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(median3x3, (images,))


def test_bit_depth_rounds_and_lets_the_gradient_through() -> None:
    images = torch.tensor([[[[0.0, 0.2, 0.4, 1.0]]]], requires_grad=True)
    squeezed = BitDepth(bits=1)(images)
    assert squeezed.detach().flatten().tolist() == [0.0, 0.0, 0.0, 1.0]
    squeezed.sum().backward()
    assert images.grad.flatten().tolist() == [1.0, 1.0, 1.0, 1.0]


def test_learned_smoothing_starts_with_half_its_weight_on_the_centre() -> None:
    smoothing = LearnedSmoothing(1)
    smoothing.initialise(torch.Generator())
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1
    smoothed = smoothing(image).detach()
    assert float(smoothed[0, 0, 2, 2]) == pytest.approx(0.5, abs=1e-3)
    assert float(smoothed[0, 0, 1, 1]) == pytest.approx(1 / 16, abs=1e-3)
    assert float(smoothing(torch.ones(1, 1, 4, 4)).detach().min()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in DENOISERS if name != "none"])
def test_a_denoiser_starts_as_the_identity(name: str) -> None:
    network = build(Genome(denoiser=name), (1, 8, 8), 10, generator=_generator())
    features = torch.rand(2, 16, 8, 8)
    assert torch.equal(network.denoiser(features), features)


def test_the_gaussian_denoiser_averages_equal_features_to_themselves() -> None:
    denoiser = GaussianNonLocalDenoiser(4)
    features = torch.ones(1, 4, 3, 3) * torch.arange(4.0).reshape(1, 4, 1, 1)
    assert torch.allclose(denoiser.smooth(features), features, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 9, 2, 3)])
def test_the_dot_product_denoiser_is_the_paper_s_sum(shape: tuple[int, int, int, int]) -> None:
    features = torch.rand(shape, generator=_generator())
    positions = features.flatten(2).transpose(1, 2)
    expected = torch.stack([torch.stack([sum((x @ y) * y for y in image) / len(image) for x in image])
                            for image in positions])
    smoothed = DotProductNonLocalDenoiser(shape[1]).smooth(features)
    assert torch.allclose(smoothed.flatten(2).transpose(1, 2), expected, atol=1e-5)


def test_in_evaluation_convolution_and_batch_norm_are_one() -> None:
    layer = NormalisedConvolution(3, 5, stride=2).eval()
    layer.norm.running_mean.uniform_(-1, 1)
    layer.norm.running_var.uniform_(0.5, 2)
    images = torch.rand(2, 3, 6, 6)
    assert torch.allclose(layer(images), layer.norm(layer.convolution(images)), atol=1e-6)


def test_flops_of_a_single_convolution_by_hand() -> None:
    convolution = torch.nn.Conv2d(2, 5, 3, padding=1, bias=False)
    assert count_flops(convolution, (2, 4, 4)) == 2 * 4 * 4 * 5 * 2 * 9


def test_normalisation_lies_inside_the_network() -> None:
    network = build(Genome(), (1, 8, 8), 10, generator=_generator(), mean=torch.tensor([0.3]), std=torch.tensor([2.0]))
    assert float(network.normalise(torch.full((1, 1, 8, 8), 0.7)).mean()) == pytest.approx(0.2, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(genome=genomes)
def test_weights_round_trip_with_their_genome(tmp_path_factory: pytest.TempPathFactory, genome: Genome) -> None:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    network = build(genome, (1, 8, 8), 10, generator=_generator()).eval()
    save(network, path)
    again = load(path)
    images = torch.rand(4, 1, 8, 8)
    assert isinstance(again, Network) and not again.training and again.genome == genome
    assert read_metadata(path)["classes"] == 10
    with torch.no_grad():
        assert torch.equal(again(images), network(images))


def test_files_that_are_not_ours_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; give a weights file that Parapet wrote"):
        load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(InputError, match="is no weights file of Parapet"):
        load(tmp_path / "bad.safetensors")


def test_images_too_small_for_two_stages_are_told() -> None:
    with pytest.raises(InputError, match="images of 2x2 pixels are too small for two stages"):
        build(dataclasses.replace(Genome(), width=4), (1, 2, 2), 10, generator=_generator())


def _reference(layer: NormalisedConvolution, features: torch.Tensor) -> torch.Tensor:
    return layer.norm(layer.convolution(features))


def test_a_convolution_is_kept_inside_an_attack_and_not_beyond() -> None:
    layer, features = NormalisedConvolution(3, 5).eval(), torch.rand(4, 3, 6, 6, generator=_generator())

    def agrees() -> bool:
        return torch.allclose(layer(features), _reference(layer, features), atol=1e-5)
    for change in (lambda: layer.convolution.weight.data.mul_(2), lambda: layer.norm.running_mean.data.add_(1),
                   lambda: layer.norm.bias.data.fill_(0.5)):
        with frozen(layer):
            assert agrees() and layer._kept is not None
            kept = layer._kept[0]
            with frozen(layer):  # an attack inside a suite
                assert agrees()
            assert agrees() and not layer.convolution.weight.requires_grad
            assert torch.equal(layer._kept[0], kept)
        assert layer._kept is None and layer.convolution.weight.requires_grad
        change()
        assert agrees()
    layer(features).sum().backward()
    assert layer._kept is None and layer.convolution.weight.grad is not None


def test_a_kept_convolution_has_gradients_for_the_images_also_after_inference_mode() -> None:
    layer, features = NormalisedConvolution(3, 5).eval(), torch.rand(2, 3, 6, 6)
    with frozen(layer):
        with torch.inference_mode():
            layer(features)
        points = features.clone().requires_grad_()
        layer(points).sum().backward()
        assert points.grad is not None
