"""Minimum-norm attacks: exact on linear models, honest about what they did not find, and never worse for more work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from parapet.attacks import carlini_wagner, deepfool, fab, hop_skip_jump
from parapet.attacks.balls import distance
from parapet.attacks.minimum_norm.boundary import drop_perpendicular, refine
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, Linear, ManyClasses, far_from_the_limits

GRADIENT = {"deepfool": deepfool, "fab": fab, "fab untargeted": partial(fab, targets=None)}
CASES = [*[(name, norm) for name in GRADIENT for norm in ("linf", "l2")], ("carlini_wagner", "l2")]
ALL = {**GRADIENT, "carlini_wagner": partial(carlini_wagner, steps=300, searches=9, step_size=0.02)}


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_the_exact_distance_of_a_linear_model(name: str, norm: str) -> None:
    model, images, labels = far_from_the_limits()
    found, distances = ALL[name](model, images, labels, norm=norm)
    assert torch.allclose(distances, model.exact_distances(images, norm), rtol=2e-3, atol=1e-5)
    assert torch.allclose(distances, distance(found, images, norm))
    assert (model(found).argmax(1) != labels).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hop_skip_jump_comes_near_the_exact_distance_from_labels_alone(norm: str) -> None:
    model, images, labels = far_from_the_limits()

    def one_hot(batch: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return nn.functional.one_hot(model(batch).argmax(1), 2).float()
    found, distances = hop_skip_jump(one_hot, images, labels, norm=norm, queries=4000)
    exact = model.exact_distances(images, norm)
    assert (model(found).argmax(1) != labels).all()
    assert (distances >= exact - 1e-6).all()
    assert float((distances / exact).median()) < (1.1 if norm == "linf" else 1.05)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hop_skip_jump_keeps_its_budget_and_gains_from_a_larger_one(honest, digits, norm: str) -> None:
    images, labels = digits.split("test", limit=20).all()
    medians = []
    for queries in (150, 1200):
        asked = torch.zeros(())

        def model(batch: Tensor, asked: Tensor = asked) -> Tensor:
            asked.add_(len(batch))
            return honest.network(batch)
        found, distances = hop_skip_jump(model, images, labels, norm=norm, queries=queries)
        # the clean pass and the bisection of starts come on top for a budget that is too small for a round
        assert asked <= (queries + 25) * 20
        right = torch.isfinite(distances) & (distances > 0)
        assert (honest.network(found[right]).argmax(1) != labels[right]).all()
        assert found.min() >= 0 and found.max() <= 1
        medians.append(float(distances.median()))
    assert medians[1] < medians[0]


def test_hop_skip_jump_begins_where_it_is_told() -> None:
    model, images, labels = far_from_the_limits(4)
    starts = torch.where((labels == 0).reshape(-1, 1, 1, 1), images[labels == 1][:1], images[labels == 0][:1])
    found, distances = hop_skip_jump(model, images, labels, queries=30, starts=starts)
    assert torch.isfinite(distances).all()
    along = (found - images).flatten(1) / (starts - images).flatten(1)
    assert torch.allclose(along, along[:, :1].expand_as(along), atol=1e-3)  # a bisection of the segment, no more


def test_carlini_wagner_keeps_the_confidence() -> None:
    model, images, labels = far_from_the_limits()
    found, distances = carlini_wagner(model, images, labels, steps=200, step_size=0.02, confidence=0.5)
    logits = model(found).detach()
    others = logits.gather(1, 1 - labels[:, None]) - logits.gather(1, labels[:, None])
    assert (others.squeeze(1) >= 0.5 - 1e-4).all()
    assert (distances > model.exact_distances(images, "l2")).all()


@pytest.mark.parametrize("attack", [*ALL.values(), partial(hop_skip_jump, queries=100)])
def test_wrong_images_are_at_distance_0_and_constant_models_at_infinity(attack: Callable) -> None:
    images, labels = torch.rand(3, *SHAPE), torch.tensor([0, 0, 1])
    found, distances = attack(lambda batch: torch.tensor([[1.0, 0.0]]).expand(len(batch), 2) + 0 * batch.sum(),
                              images, labels, norm="l2")
    assert distances.tolist() == [torch.inf, torch.inf, 0.0] and torch.equal(found, images)


@pytest.mark.parametrize("attack", [*ALL.values(), partial(hop_skip_jump, queries=100)])
def test_no_images_are_no_error(attack: Callable) -> None:
    found, distances = attack(Linear(torch.ones(16), 0.0), torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.long),
                              norm="l2")
    assert found.shape == (0, *SHAPE) and distances.shape == (0,)


@pytest.mark.parametrize("attack", [*ALL.values(), partial(hop_skip_jump, queries=100)])
def test_the_model_comes_back_as_it_was(attack: Callable) -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 3)).train()
    model[3].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attack(model, torch.rand(4, *SHAPE), torch.tensor([0, 1, 2, 0]), norm="l2")
    assert all(module.training for module in model.modules())
    assert not model[3].weight.requires_grad and model[1].weight.requires_grad and model[1].weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_foot_of_the_perpendicular_is_exact_where_the_boundary_is_flat() -> None:
    model, images, labels = far_from_the_limits()
    ends = torch.where((labels == 0).reshape(-1, 1, 1, 1), images[labels == 1][:1], images[labels == 0][:1])
    for norm in ("linf", "l2"):
        foot = drop_perpendicular(model, images, labels, ends, norm)
        assert torch.allclose(distance(foot, images, norm), model.exact_distances(images, norm), rtol=2e-3, atol=1e-5)


def test_refine_stops_at_the_boundary_and_leaves_the_unbroken_alone() -> None:
    model = ManyClasses(3)
    images = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    labels = model(images).argmax(1)
    ends = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(1))
    near = refine(model, images, labels, ends, steps=12)
    fooled = model(ends).argmax(1) != labels
    assert torch.equal(near[~fooled], ends[~fooled])
    assert (model(near[fooled]).argmax(1) != labels[fooled]).all()
    a_little_less = torch.lerp(images, near, 1 - 2**-9)[fooled]
    assert (model(a_little_less).argmax(1) == labels[fooled]).float().mean() > 0.8


@pytest.mark.parametrize(("attack", "sentence"), [
    (partial(carlini_wagner, norm="linf"), "carlini_wagner minimises L2 distances alone"),
    (partial(carlini_wagner, steps=0), "steps and searches must be at least 1, step_size and constant above 0"),
    (partial(hop_skip_jump, queries=0), "hop_skip_jump got queries=0 and neighbours=100; queries must be at least 1"),
])
def test_wrong_options_are_told(attack: Callable, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        attack(Linear(torch.ones(16), 0.0), torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1]))
    assert sentence in str(caught.value)
