"""Every pair of architectural choices exports to ONNX, computes the same there, and nearly the same as INT8."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from parapet.catalogue.networks import BACKBONES
from parapet.deployment import check_parity, export, predict, quantize, session
from parapet.genome import Genome
from parapet.models import build
from tests.models.spaces import WORDS, architectures, as_trained, smallest_images

FACTORS = ("backbone", "denoiser_stage", *WORDS)


def pairs(genome: Genome) -> set[tuple]:
    """Every two choices that stand together in `genome`."""
    values = genome.to_dict()
    return set(itertools.combinations(((name, values[name]) for name in FACTORS), 2))


def covering() -> list[Genome]:
    """Few architectures with every pair that any has: greedily the one with the most new pairs."""
    rest = {genome: pairs(genome) for backbone in BACKBONES for genome in architectures(backbone)}
    chosen = []
    while rest:
        best = max(rest, key=lambda genome: len(rest[genome]))
        chosen.append(best)
        met = pairs(best)
        rest = {genome: new for genome, left in rest.items() if (new := left - met)}
    return chosen


def _agreement(genome: Genome, path: Path) -> float:
    """The share of images on which the exported graph answers as the network does; ParityError where logits differ.

    The INT8 graph takes batches of any size too, and its logits go the same way.
    """
    generator, shape = torch.Generator().manual_seed(0), smallest_images(genome.backbone)
    network = as_trained(build(genome, shape, 10, generator=generator), generator)
    export(network, path, opset=20)
    images = torch.rand(16, *shape, generator=generator)
    agreement = check_parity(network, path, images[:8], tolerance=1e-3)["label_agreement"]
    quantized = path.with_name("int8.onnx")
    quantize(path, quantized, images.numpy())
    expected, running = predict(session(path), images.numpy()), session(quantized)
    one, seven, all_ = (predict(running, images.numpy(), size) for size in (1, 7, 16))
    for found in (one, seven):
        assert np.allclose(found, all_, atol=1e-3 * np.abs(all_).max())
    # Of one network, whose random weights leave a dead map beside a lively one, it is 0.71; of all others over 0.999.
    assert float(np.corrcoef(all_.ravel(), expected.ravel())[0, 1]) > 0.5, genome
    return agreement


def test_the_covering_array_has_every_pair() -> None:
    wanted = set().union(*(pairs(genome) for backbone in BACKBONES for genome in architectures(backbone)))
    assert set().union(*map(pairs, covering())) == wanted


@pytest.mark.parametrize("genome", covering(), ids=str)
def test_every_pair_of_choices_exports(tmp_path: Path, genome: Genome) -> None:
    assert _agreement(genome, tmp_path / "model.onnx") == 1


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_full_product_exports(tmp_path: Path, backbone: str) -> None:
    for genome in architectures(backbone):
        try:
            agreement = _agreement(genome, tmp_path / "model.onnx")
        except Exception as error:
            raise AssertionError(f"{genome} does not export") from error
        assert agreement == 1, genome
