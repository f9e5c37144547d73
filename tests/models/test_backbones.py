"""Backbones: the sizes that the papers give, the papers' layers, stages, fused batch norms, wrong sizes told."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from parapet.catalogue.networks import BACKBONES
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build
from parapet.models.backbones import NormalisedConvolution
from parapet.models.backbones.small_cnn import SeededDropout
from parapet.models.cost import count_parameters
from parapet.models.network import Network
from tests.models.spaces import as_trained, smallest_images

CIFAR = (3, 32, 32)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("genome", "shape", "parameters"), [
    (Genome(backbone="small_cnn"), (1, 28, 28), 312_202),
    (Genome(backbone="preact_resnet", width=64, depth=2), CIFAR, 11_172_170),  # PreActResNet-18
    (Genome(backbone="wide_resnet", width=160, depth=4), CIFAR, 36_479_194),  # WRN-28-10
    (Genome(backbone="wide_resnet", width=160, depth=5), CIFAR, 46_160_474),  # WRN-34-10
], ids=str)
def test_references_have_their_papers_size(genome: Genome, shape: tuple[int, int, int], parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(Network(genome, shape, 10)) == parameters


def test_small_cnn_is_that_of_trades() -> None:
    network = build(Genome(backbone="small_cnn"), (1, 28, 28), 10, generator=_generator()).eval()
    reference = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Flatten(),
        nn.Linear(64 * 4 * 4, 200), nn.ReLU(), nn.Dropout(0.5), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))
    reference.load_state_dict(dict(zip(reference.state_dict(), network.parameters())))
    images = torch.rand(3, 1, 28, 28, generator=_generator())
    with torch.no_grad():
        assert torch.equal(network(images), reference.eval()(images))


@pytest.mark.parametrize(("backbone", "shape", "sides"), [
    ("plain", (1, 28, 28), [14, 7]), ("small_cnn", (1, 28, 28), [12, 4]), ("preact_resnet", CIFAR, [32, 16, 8, 4]),
    ("wide_resnet", CIFAR, [32, 16, 8]), ("vit", CIFAR, [8, 8]), ("vit", (1, 28, 28), [7, 7]),
    ("vit", (1, 8, 8), [4, 4])])
def test_stages_halve_the_image_as_the_papers_do(backbone: str, shape: tuple[int, int, int], sides: list[int]) -> None:
    network = build(Genome(backbone=backbone, width=4, depth=1), shape, 10, generator=_generator()).eval()
    found = []
    for number in range(1, network.stages + 1):
        getattr(network, f"stage{number}").register_forward_hook(
            lambda module, inputs, features: found.append(features.shape[-1]))
    with torch.no_grad():
        network(torch.rand(2, *shape))
    assert found == sides


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_genome_knows_how_many_stages_there_are(backbone: str) -> None:
    stages = BACKBONES[backbone].stages
    genome = Genome(backbone=backbone, width=4, depth=1, denoiser="mean", denoiser_stage=stages)
    assert Network(genome, smallest_images(backbone), 10).stages == stages
    over = dataclasses.replace(genome, denoiser_stage=stages + 1)
    with pytest.raises(InputError, match=f"denoiser_stage is {stages + 1}, and the backbone {backbone} has {stages} "
                                         "stages; it must be a whole number from 1 to"):
        Network(over, smallest_images(backbone), 10)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_weights_and_masks_come_from_the_passed_generator_alone(backbone: str) -> None:
    genome, shape = Genome(backbone=backbone, width=6, depth=1, denoiser="gaussian"), smallest_images(backbone)
    images, built, logits = torch.rand(4, *shape), [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        network = build(genome, shape, 10, generator=_generator())
        built.append({name: value.clone() for name, value in network.state_dict().items()})
        logits.append(network.train()(images).detach())
        assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(value, built[1][name]) for name, value in built[0].items())
    assert torch.equal(*logits)


def test_dropout_goes_on_where_its_state_says() -> None:
    layer, features = SeededDropout(0.5), torch.ones(40, 50)
    layer.initialise(_generator())
    first, again = layer(features), copy.deepcopy(layer)
    second = layer(features)
    assert not torch.equal(first, second) and torch.equal(again(features), second)
    assert set(first.unique().tolist()) == {0.0, 2.0} and float(first.mean()) == pytest.approx(1, abs=0.1)
    assert torch.equal(layer.eval()(features), features)


@pytest.mark.parametrize("backbone", ["plain", "residual", "separable", "preact_resnet", "wide_resnet"])
def test_in_evaluation_fused_batch_norms_change_nothing(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, shape = _generator(), (3, 16, 16)
    network = as_trained(build(Genome(backbone=backbone, width=6), shape, 10, generator=generator), generator)
    images = torch.rand(4, *shape, generator=generator)
    with torch.no_grad():
        fused = network(images)
        monkeypatch.setattr(NormalisedConvolution, "forward", _unfused)
        assert torch.allclose(network(images), fused, rtol=1e-4, atol=1e-4 * float(fused.abs().max()))


def _unfused(self: NormalisedConvolution, features: Tensor) -> Tensor:
    return self.norm(self.convolution(features))


@pytest.mark.parametrize(("genome", "shape", "sentence"), [
    (Genome(backbone="preact_resnet"), (1, 4, 9), "images of 4x9 pixels are too small for the 4 stages of "
                                                  "preact_resnet; the smallest allowed size is 5x5."),
    (Genome(backbone="wide_resnet"), (1, 2, 2), "too small for the 3 stages of wide_resnet; the smallest allowed size "
                                                "is 3x3."),
    (Genome(backbone="small_cnn"), (1, 8, 8), "images of 8x8 pixels are too small for small_cnn; the smallest allowed "
                                              "size is 16x16."),
    (Genome(backbone="vit"), (1, 2, 2), "images of 2x2 pixels are too small for the patches of vit"),
    (Genome(backbone="vit", width=2), (1, 8, 8), "width is 2, too few numbers to normalise for the backbone vit; "
                                                 "it must be a whole number from 3."),
])
def test_what_does_not_fit_is_told(genome: Genome, shape: tuple[int, int, int], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build(genome, shape, 10, generator=_generator())
    assert sentence in str(caught.value) and str(caught.value).count(".") == 1


@pytest.mark.parametrize(("backbone", "side"), [("plain", 3), ("preact_resnet", 5), ("wide_resnet", 3),
                                                ("small_cnn", 16), ("vit", 3)])
def test_the_smallest_allowed_images_are_read(backbone: str, side: int) -> None:
    network = build(Genome(backbone=backbone, width=4), (1, side, side), 10, generator=_generator())
    with torch.no_grad():
        assert network(torch.rand(2, 1, side, side)).shape == (2, 10)


def test_attention_takes_widths_that_its_heads_do_not_divide() -> None:
    network = build(Genome(backbone="vit", width=37, depth=1), (1, 8, 8), 10, generator=_generator()).eval()
    attention = network.stage1[0].attention[1]
    assert attention.heads == 2 and attention.project.in_features == 38 and attention.project.out_features == 37
    with torch.no_grad():
        assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)
