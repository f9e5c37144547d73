"""RayS finds exact distances of linear models from labels alone, within its budget."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks import pgd, rays
from parapet.attacks.balls import distance
from parapet.attacks.inputs import predict
from parapet.attacks.noise import derived
from parapet.attacks.query_counter import QueryCounter
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, ManyClasses, far_from_the_limits

module: Any = importlib.import_module("parapet.attacks.black_box.rays")  # the package has the function by this name


def _one_hot(model: Any) -> Any:
    return lambda images: torch.nn.functional.one_hot(model(images).argmax(1), 2).float()


def test_of_a_linear_model_it_finds_the_exact_distance_from_labels_alone() -> None:
    model, images, labels = far_from_the_limits()
    points, distances = rays(_one_hot(model), images, labels, queries=1000)
    exact = model.exact_distances(images, "linf")
    # 8 halvings of the distance before, which is at most 1
    assert (distances >= exact - 1e-6).all() and (distances <= exact * 1.02 + 1e-4).all()
    assert (predict(model, points) != labels).all()
    assert torch.allclose(distances, distance(points, images, "linf").double())


def test_it_keeps_its_budget_and_leaves_images_that_fell_within_eps() -> None:
    model, images, labels = far_from_the_limits()
    exact = model.exact_distances(images, "linf")
    for queries in (2, 9, 50, 200):
        counter = QueryCounter()
        _, distances = rays(counter.of(model), images, labels, queries=queries)
        assert counter.queries <= (queries + 1) * len(images)
    eps = float(exact.median()) * 1.1
    counter = QueryCounter()
    _, near = rays(counter.of(model), images, labels, queries=1000, eps=eps)
    assert torch.equal(near <= eps, exact <= eps)
    whole = QueryCounter()
    rays(whole.of(model), images, labels, queries=1000)
    assert counter.queries < 0.8 * whole.queries


def test_blocks_halve_down_to_single_pixels_and_are_drawn_anew_in_each_turn() -> None:
    seeds = torch.arange(3)
    first = list(module._blocks(seeds, 5, 0))
    assert [block.shape[1] for block in first] == [5, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert first[1][0].tolist() == [0, 1, 2] and first[2][2].tolist() == [3, 4]
    later = list(module._blocks(seeds, 5, 1))
    assert sorted(later[0][0].tolist()) == [0, 1, 2, 3, 4] and later[0][0].tolist() != later[0][1].tolist()
    assert torch.equal(torch.cat(later[-5:], 1), later[0])


def test_starting_again_breaks_what_one_descent_leaves(honest, digits) -> None:
    """A descent ends where no block helps; other blocks lead past that."""
    images, labels = digits.split("test", limit=60).all()
    model = QueryCounter().of(honest.network)
    left = [int((rays(model, images, labels, queries=queries, eps=0.2)[1] > 0.2).sum()) for queries in (300, 2000)]
    assert left[1] < left[0]
    white = predict(honest.network, pgd(honest.network, images, labels, eps=0.2, steps=40, loss="margin")) == labels
    assert left[1] <= int(white.sum()) + 6


def test_what_an_image_gets_does_not_depend_on_its_batch(honest, digits) -> None:
    images, labels = digits.split("test", limit=24).all()
    seeds = derived(torch.arange(24), 3)
    whole = rays(honest.network, images, labels, queries=400, generator=seeds)[1]
    parts = torch.cat([rays(honest.network, images[part], labels[part], queries=400, generator=seeds[part])[1]
                       for part in (slice(0, 7), slice(7, 24))])
    assert torch.allclose(whole, parts, atol=1e-3)


def test_what_lies_just_inside_the_ball_is_not_rounded_out_of_it() -> None:
    def model(batch: Tensor) -> Tensor:
        value = (batch - start).flatten(1).abs().amax(1) - 63.5 / 256
        return torch.stack([-value, value], 1)
    start = 0.1 + 0.6 * torch.rand(50, *SHAPE, generator=torch.Generator().manual_seed(0))
    points, distances = rays(lambda batch: model(batch), start, torch.zeros(50, dtype=torch.int64), queries=9, eps=0.25)
    assert (distances <= 0.25).all() and (distance(points, start, "linf") <= 0.25).all()


def test_a_first_direction_can_be_given() -> None:
    model, images, labels = far_from_the_limits()
    weight = model.weight.detach().reshape(SHAPE)
    towards = torch.where(labels == 0, -1.0, 1.0).reshape(-1, 1, 1, 1)
    given = images + 0.3 * towards * weight.sign()
    known = rays(model, images, labels, queries=9, starts=given)[1]
    assert torch.allclose(known, model.exact_distances(images, "linf"), rtol=0.05, atol=0.005)
    assert (rays(model, images, labels, queries=9)[1] > 2 * known).any()


def test_wrong_images_nothing_found_and_nothing_to_do() -> None:
    model, images, labels = far_from_the_limits(6)
    wrong = labels.clone()
    wrong[:2] = 1 - wrong[:2]
    points, distances = rays(model, images, wrong, queries=100)
    assert (distances[:2] == 0).all() and torch.equal(points[:2], images[:2]) and (distances[2:] > 0).all()

    def never(batch: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).repeat(len(batch), 1)
    points, distances = rays(never, images, torch.zeros(6, dtype=torch.int64), queries=40)
    assert torch.isinf(distances).all() and torch.equal(points, images)
    none = torch.zeros(0, *SHAPE)
    assert rays(ManyClasses(3), none, torch.zeros(0, dtype=torch.int64))[0].shape == none.shape


@pytest.mark.parametrize(("options", "message"), [
    ({"norm": "l2"}, "rays got norm=l2; it searches the corners of L-inf balls, so norm must be linf."),
    ({"queries": 1}, "rays got queries=1; it must be at least 2."),
    ({"eps": 2.0}, "eps is 2; it must lie in"),
])
def test_wrong_input_is_named(options: dict[str, Any], message: str) -> None:
    model, images, labels = far_from_the_limits(2)
    with pytest.raises(InputError) as raised:
        rays(model, images, labels, **options)
    assert message in str(raised.value)
