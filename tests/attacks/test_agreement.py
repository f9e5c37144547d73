"""Agreement with other people's code, run from their published source in the folder PARAPET_PEERS."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from benchmarks import checkouts
from benchmarks.attacks import peers
from parapet.attacks import apgd, auto_attack, deepfool, fgsm, pgd, square
from parapet.attacks.balls import distance
from parapet.attacks.inputs import predict

pytestmark = pytest.mark.skipif(not os.environ.get(checkouts.VARIABLE), reason=f"{checkouts.VARIABLE} is not set")
EPS = 0.2


@pytest.fixture(scope="module")
def scene(honest, digits) -> tuple[torch.nn.Module, Tensor, Tensor]:
    peers.find()
    images, labels = digits.split("test", limit=150).all()
    return honest.network, images, labels


def _robust(model, images: Tensor, labels: Tensor, points: Tensor, norm: str = "linf", eps: float = EPS) -> int:
    inside = distance(points, images, norm) <= eps + 1e-6
    return int(((predict(model, points) == labels) | ~inside).sum())


def test_fgsm_and_pgd_are_those_of_torchattacks_image_for_image(scene) -> None:
    model, images, labels = scene
    theirs = peers.torchattacks("FGSM", eps=EPS)(model, images, labels)
    assert torch.allclose(fgsm(model, images, labels, eps=EPS), theirs, atol=1e-6)
    theirs = peers.torchattacks("PGD", eps=EPS, alpha=0.05, steps=7, random_start=False)(model, images, labels)
    ours = pgd(model, images, labels, eps=EPS, steps=7, step_size=0.05, random_start=False)
    same = (ours - theirs).abs().flatten(1).amax(1) < 1e-5
    assert same.float().mean() > 0.95  # a gradient of exactly nought may have another sign in another order of sums


@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 0.8)])
def test_standard_auto_attack_leaves_no_more_than_the_official_one(scene, norm: str, eps: float) -> None:
    model, images, labels = scene
    ours = auto_attack(model, images, labels, eps=eps, norm=norm, generator=torch.Generator().manual_seed(0))
    theirs = peers.official("standard", norm, eps)(model, images, labels)
    assert _robust(model, images, labels, ours, norm, eps) <= _robust(model, images, labels, theirs, norm, eps) + 1


def test_single_attacks_are_as_strong_as_the_official_ones(scene) -> None:
    model, images, labels = scene
    generator = torch.Generator().manual_seed(0)
    for name, ours in (("apgd_ce", apgd(model, images, labels, eps=EPS, early_stop=True, generator=generator)),
                       ("square", square(model, images, labels, eps=EPS, queries=500, generator=generator))):
        theirs = peers.official(name, "linf", EPS, queries=500)(model, images, labels)
        assert _robust(model, images, labels, ours) <= _robust(model, images, labels, theirs) + 2, name


@pytest.mark.parametrize(("norm", "name"), [("linf", "LinfDeepFoolAttack"), ("l2", "L2DeepFoolAttack")])
def test_deepfool_comes_at_least_as_near_as_foolbox(scene, norm: str, name: str) -> None:
    model, images, labels = scene
    right = predict(model, images) == labels
    ours, _ = deepfool(model, images[right], labels[right], norm=norm, steps=50, classes=10)
    theirs = peers.foolbox(name, steps=50, candidates=10)(model, images[right], labels[right])
    medians = [distance(points, images[right], norm).median() for points in (ours, theirs)]
    assert medians[0] <= 1.01 * medians[1]
