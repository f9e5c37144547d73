"""Several runs through one batch: who shares it, who leaves it, and that it changes the work and not the outcome."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor

from parapet.attacks import apgd, fab, pgd, restarts
from parapet.attacks.balls import distance
from parapet.attacks.objectives import divergence_from
from parapet.attacks.restarts import BestOfRuns, standing, together

MANY = {"pgd": partial(pgd, steps=8, restarts=5, loss="margin", early_stop=True),
        "apgd": partial(apgd, steps=12, targets=4, early_stop=True),
        "apgd restarts": partial(apgd, steps=12, restarts=3, early_stop=True),
        "fab": partial(fab, steps=8, targets=4)}


@given(runs=some.integers(1, 40), images=some.integers(1, 2000), pixels=some.sampled_from([64, 784, 3072, 150_528]))
def test_each_run_is_done_once_in_batches_of_even_size_below_the_bound(runs: int, images: int, pixels: int) -> None:
    groups, done = [], 0
    while done < runs:
        groups.append(together(done, runs, images, pixels))
        done = groups[-1].stop
    assert [run for group in groups for run in group] == list(range(runs))
    sizes = {len(group) for group in groups}
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == 1 or max(sizes) * images <= min(512, 512 * 3072 // pixels)


def test_512_points_of_32x32_in_colour_fill_a_batch() -> None:
    for images, pixels, runs in ((64, 3 * 32 * 32, 8), (512, 3 * 32 * 32, 1), (513, 3 * 32 * 32, 1), (64, 16, 8),
                                 (16, 4 * 3 * 32 * 32, 8)):  # of four times the pixels a quarter as many
        assert together(0, 40, images, pixels) == range(runs)
    # What is left is shared evenly: ten runs of which eight would fit are five and five.
    assert together(3, 13, 64, 3072) == range(3, 8) and together(8, 13, 64, 3072) == range(8, 13)


def test_a_broken_point_takes_the_other_points_of_its_image_with_it() -> None:
    broken, owners = torch.tensor([True, False, False, False, False]), torch.tensor([7, 2, 7, 4, 2])
    assert standing(broken, owners).tolist() == [False, True, False, True, True]
    assert standing(broken[:0], owners[:0]).tolist() == []


def test_the_best_of_several_runs_is_a_broken_one_or_that_of_the_largest_objective() -> None:
    best = BestOfRuns(torch.zeros(2, 1, 1, 1))
    groups = best.batches(3)
    runs, rows = next(groups)
    assert runs == range(3) and rows.tolist() == [0, 1, 0, 1, 0, 1]
    points = torch.arange(1.0, 7.0).reshape(6, 1, 1, 1)
    values, broken = torch.tensor([5.0, 1.0, 0.0, 3.0, 4.0, 2.0]), torch.tensor([0, 0, 1, 0, 0, 0]).bool()
    best.keep(points, values, broken)
    assert best.images.flatten().tolist() == [3.0, 4.0]
    assert list(groups) == []


@pytest.mark.parametrize("name", MANY)
def test_together_or_one_after_the_other_comes_to_the_same(honest, digits, monkeypatch, name: str) -> None:
    images, labels = digits.split("test", limit=90).all()
    attack: Callable[..., Tensor | tuple[Tensor, Tensor]] = partial(MANY[name], honest.network, images, labels, eps=0.2)

    def ends() -> Tensor:
        found = attack(generator=torch.arange(90))
        points = found[0] if isinstance(found, tuple) else found
        return (honest.network(points).argmax(1) != labels) & (distance(points, images, "linf") <= 0.2)
    joint = ends()
    monkeypatch.setattr(restarts, "_TOGETHER", 1)
    assert joint.any() and not joint.all()
    assert (ends() == joint).float().mean() >= 0.98


@pytest.mark.parametrize("name", MANY)
def test_a_batch_that_does_not_fit_is_cut(honest, digits, name: str) -> None:
    images, labels = digits.split("test", limit=40).all()
    largest = 0

    def small(batch: Tensor) -> Tensor:
        nonlocal largest
        if len(batch) > 50:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        largest = max(largest, len(batch))
        return honest.network(batch)
    for model in (small, honest.network):
        found = MANY[name](model, images, labels, eps=0.2, generator=torch.arange(40))
        points = found[0] if isinstance(found, tuple) else found
        broken = honest.network(points).argmax(1) != labels
        if model is small:
            cut = broken
    assert largest > 25 and (cut == broken).float().mean() >= 0.97


def test_an_objective_of_its_own_meets_its_images_in_their_places(honest, digits) -> None:
    images, labels = digits.split("test", limit=30).all()
    reference = honest.network(images).softmax(1).detach()
    for attack in (pgd, apgd):
        found = attack(honest.network, images, labels, eps=0.1, steps=4, restarts=3, loss=divergence_from(reference),
                       generator=torch.arange(30))
        assert not torch.equal(found, images) and (distance(found, images, "linf") <= 0.1).all()


def test_restarts_of_fab_start_alike_in_any_batch(honest, digits) -> None:
    images, labels = digits.split("test", limit=80).all()
    attack = partial(fab, honest.network, steps=6, restarts=2, targets=9)
    _, whole = attack(images, labels, generator=torch.arange(80))
    _, part = attack(images[:8], labels[:8], generator=torch.arange(8))
    assert torch.allclose(whole[:8], part, atol=1e-3)


def test_an_image_that_one_target_breaks_leaves_the_others() -> None:
    """Class 1 is reached at once, the others never: all nine targets together cost little more than one."""
    def model(batch: Tensor) -> Tensor:
        asked.append(len(batch))
        value = batch.mean((1, 2, 3))
        return torch.stack([1 - value, value + 0.45, *(value * 0 - 5 - extra for extra in range(8))], 1)
    asked: list[int] = []
    images, labels = torch.full((50, 1, 4, 4), 0.2), torch.zeros(50, dtype=torch.int64)
    apgd(model, images, labels, eps=0.3, steps=100, targets=9, early_stop=True, generator=torch.arange(50))
    assert sum(asked) < 50 * 9 * 10
