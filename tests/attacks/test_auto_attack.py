"""AutoAttack: its batches, what it hands to its attacks, and what it believes of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks import Attack, auto_attack
from parapet.attacks.auto_attack import run_attack
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, far_from_the_limits


def _dark(images: Tensor) -> Tensor:
    """Class 0 where the first pixel is below 0.7, else class 1."""
    value = images[:, 0, 0, 0] - 0.7
    return torch.stack([-value, value], 1)


@pytest.mark.parametrize(("options", "sizes"), [({}, [256, 2]), ({"batch_size": 1}, [1] * 258),
                                                ({"batch_size": 100}, [100, 100, 58])])
def test_images_come_in_batches_of_256_or_of_what_is_asked_for(options: dict[str, int], sizes: list[int]) -> None:
    asked = []

    def model(images: Tensor) -> Tensor:
        asked.append(len(images))
        return _dark(images)
    images, labels = torch.full((258, *SHAPE), 0.5), torch.ones(258, dtype=torch.int64)
    assert torch.equal(auto_attack(model, images, labels, eps=0.1, **options), images)
    assert asked == sizes  # all are wrong already, so nothing follows


def test_a_batch_of_no_image_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size is 0; it must be at least 1"):
        auto_attack(_dark, torch.full((2, *SHAPE), 0.5), torch.zeros(2, dtype=torch.int64), eps=0.1, batch_size=0)


def test_batches_of_one_image_do_what_a_batch_of_all_does() -> None:
    model, images, labels = far_from_the_limits(3)
    eps = 1.2 * float(model.exact_distances(images, "linf").max())
    for size in (1, 3):
        assert (model(auto_attack(model, images, labels, eps=eps, batch_size=size)).argmax(1) != labels).all()


@pytest.mark.parametrize(("takes_eps", "given"), [(True, {"eps": 0.25, "steps": 7}), (False, {"steps": 7})])
def test_a_minimum_norm_attack_is_told_the_radius_where_it_takes_one(takes_eps: bool, given: dict[str, Any]) -> None:
    seen: list[dict[str, Any]] = []

    def attack(model: object, images: Tensor, labels: Tensor, *, norm: str, generator: Tensor,
               **options: Any) -> tuple[Tensor, Tensor]:
        assert norm == "l2" and generator.tolist() == [5, 6]
        seen.append(options)
        return images, torch.zeros(len(images))
    run_attack(Attack("nearest", attack, {"steps": 7}, minimum_norm=True, takes_eps=takes_eps), _dark,
           torch.full((2, *SHAPE), 0.5), torch.zeros(2, dtype=torch.int64), 0.25, "l2", torch.tensor([5, 6]))
    assert seen == [given]


@pytest.mark.parametrize("minimum_norm", [True, False])
def test_a_point_at_the_very_edge_of_the_ball_is_inside_and_one_beyond_is_only_measured(minimum_norm: bool) -> None:
    images, labels = torch.full((4, *SHAPE), 0.5), torch.tensor([0, 0, 0, 0])
    ends = torch.tensor([0.75, 0.875, 0.625, 0.71875])

    def attack(model: object, images: Tensor, labels: Tensor, **options: Any) -> Any:
        points = images.clone()
        points[:, 0, 0, 0] = ends
        return (points, torch.zeros(4)) if minimum_norm else points  # what an attack says of itself counts for nothing
    found = run_attack(Attack("any", attack, minimum_norm=minimum_norm), _dark, images, labels, 0.25, "linf",
                   torch.arange(4))
    assert found.fooled.tolist() == [True, False, False, True]
    assert found.distances.tolist() == [0.25, 0.375, torch.inf, 0.21875]
