"""A3: exact on linear models, what it learns from success, and whom it leaves out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from parapet.attacks import a3, pgd
from parapet.attacks.balls import distance
from parapet.attacks.gradient.a3 import ROUNDS, Round, _directions, _Ends, _feasible, _Known, _Signs, _step_size, brief
from parapet.attacks.inputs import predict
from parapet.attacks.query_counter import QueryCounter
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, ManyClasses, far_from_the_limits


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_of_a_linear_model_it_breaks_just_what_can_be_broken(norm: str) -> None:
    model, images, labels = far_from_the_limits()
    exact = model.exact_distances(images, norm)
    eps = float(exact.median()) * 1.0001
    points = a3(model, images, labels, eps=eps, norm=norm)
    assert (distance(points, images, norm) <= eps).all() and points.amin() >= 0 and points.amax() <= 1
    broken = predict(model, points) != labels
    assert broken[exact < 0.999 * eps].all() and not broken[exact > eps].any()
    assert 0 < int(broken.sum()) < len(images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_among_many_classes_it_finds_the_nearest_boundary(norm: str) -> None:
    model = ManyClasses(7)
    images = 0.5 + 0.02 * (torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(3)) - 0.5)
    labels = predict(model, images)
    for row, exact in enumerate(model.exact_distances(images, labels, norm).tolist()):
        one, label = images[row:row + 1], labels[row:row + 1]
        assert predict(model, a3(model, one, label, eps=1.01 * exact, norm=norm)) != label
        assert predict(model, a3(model, one, label, eps=0.99 * exact, norm=norm)) == label


def test_it_breaks_what_pgd_breaks_and_more(honest, digits) -> None:
    images, labels = digits.split("test", limit=200).all()
    ours = predict(honest.network, a3(honest.network, images, labels, eps=0.2)) == labels
    theirs = predict(honest.network, pgd(honest.network, images, labels, eps=0.2, steps=40, loss="margin")) == labels
    assert int(ours.sum()) <= int(theirs.sum())
    assert int((ours & ~theirs).sum()) <= 1


def test_the_same_seed_gives_the_same_points_and_another_one_others(honest, digits) -> None:
    images, labels = digits.split("test", limit=40).all()
    found = [a3(honest.network, images, labels, eps=0.1, generator=torch.Generator().manual_seed(seed))
             for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_a_direction_is_random_until_one_has_paid() -> None:
    logits, labels = torch.tensor([[5.0, 1.0, 3.0, 2.0]]).repeat(500, 1), torch.zeros(500, dtype=torch.int64)
    seeds, turns = torch.arange(500), torch.arange(500) % 4
    free = _directions(logits, labels, turns, seeds, _Signs())
    assert free.abs().amax() <= 1 and free.mean(0).abs().amax() < 0.1
    signs = _Signs()
    signs.learn(torch.tensor([[-0.9, 0.4, 0.0, 0.0]]), torch.tensor([0]),
                _Ends(torch.zeros(1, *SHAPE), torch.tensor([1.0]), torch.tensor([[0.0, 2.0, 1.0, 0.0]])))
    assert (signs.label, signs.reached) == pytest.approx((-0.9, 0.4))
    learnt = _directions(logits, labels, turns, seeds, signs)
    assert -0.5 <= learnt[:, 0].min() < -0.4 and 0.05 < learnt[:, 0].max() <= 0.1
    # In turn the classes of the second, third and fourth largest logit, then the second again.
    for turn, aimed in enumerate((2, 3, 1, 2)):
        part = learnt[turns == turn]
        assert (part[:, aimed] == pytest.approx(0.8)) and torch.equal(
            part[:, [place for place in (1, 2, 3) if place != aimed]],
            free[turns == turn][:, [place for place in (1, 2, 3) if place != aimed]])


def test_signs_that_paid_the_other_way_are_taken_over() -> None:
    signs = _Signs()
    signs.learn(torch.tensor([[0.7, -0.6], [-0.9, 0.9]]), torch.tensor([0, 0]), _Ends(
        torch.zeros(2, *SHAPE), torch.tensor([0.5, -0.5]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])))
    assert (signs.label, signs.reached) == pytest.approx((0.7, -0.6))  # the second has broken nothing
    found = _directions(torch.tensor([[3.0, 1.0]]).repeat(99, 1), torch.zeros(99, dtype=torch.int64),
                        torch.zeros(99, dtype=torch.int64), torch.arange(99), signs)
    assert found[:, 0].min() >= -0.1 and found[:, 0].max() <= 0.5 and (found[:, 1] == -0.8).all()


def test_images_that_look_hopeless_are_left_out_and_few_are_not() -> None:
    values = torch.tensor([0.5, *torch.linspace(-1, -0.01, 200).tolist()])
    known = _Known(torch.zeros(201, *SHAPE), values, torch.zeros(201, 3))
    assert known.nearest(1.0).tolist() == list(range(1, 201))
    assert known.nearest(0.5).tolist() == list(range(101, 201))  # half of those that stand, with the largest margins
    assert known.nearest(0.001).tolist() == list(range(137, 201))


def test_what_is_known_of_an_image_is_its_best_run() -> None:
    known = _Known(torch.zeros(3, *SHAPE), torch.tensor([-1.0, -1.0, -1.0]), torch.zeros(3, 2))
    values = torch.tensor([-2.0, -0.5, -0.1, 0.3])  # two runs of the images 0 and 2
    known.keep(torch.tensor([0, 2]), _Ends(torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, *SHAPE), values,
                                           torch.arange(8.0).reshape(4, 2)))
    assert torch.allclose(known.values, torch.tensor([-0.1, -1.0, 0.3]))
    assert known.points[:, 0, 0, 0].tolist() == [2.0, 0.0, 3.0] and known.logits[2].tolist() == [6.0, 7.0]


def test_steps_to_the_start_are_whole_radii_and_then_fall_by_a_cosine() -> None:
    assert _step_size(-1, 9) == 1.0 and _step_size(0, 9) == pytest.approx(1.0)
    assert _step_size(5, 9) == pytest.approx(0.001 + 0.999 * (1 + math.cos(math.pi / 2)) / 2)
    assert 0.001 < _step_size(8, 9) < 0.12


def test_it_spends_what_its_rounds_say_and_nothing_on_broken_images(undefended, honest, digits) -> None:
    images, labels = digits.split("test", limit=128).all()
    counter = QueryCounter()
    a3(counter.of(honest.network), images, labels, eps=1e-6, rounds=(Round(1.0, 3), Round(0.5, 5, 2)))
    right = int((predict(honest.network, images) == labels).sum())
    assert counter.with_gradient == right * (7 + 3) + 64 * 2 * (7 + 5)  # half of them, but at least 64
    counter.reset()
    a3(counter.of(undefended.network), images, labels, eps=0.3)
    assert counter.with_gradient < 128 * 16


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_and_networks_of_another_precision(norm: str, dtype: torch.dtype) -> None:
    model, images, labels = far_from_the_limits()
    images = images.double() if dtype == torch.float64 else images

    def other(points: Tensor) -> Tensor:
        return model(points.float()).to(dtype)
    points = a3(other, images, labels, eps=0.3, norm=norm)
    assert points.dtype == images.dtype and (distance(points, images, norm) <= 0.3).all()


@pytest.mark.parametrize(("norm", "inward"), [("linf", Round(1.0, 5)), ("l2", Round(1.0, 2, 1, (8.0, 3.0, 1.5, 1.0)))])
def test_a_brief_one_has_two_rounds_and_comes_in_from_larger_balls_under_l2(norm: str, inward: Round) -> None:
    assert brief(norm, 5) == (Round(1.0, 5), inward)
    assert brief(norm, 1)[1].steps == 1


def test_radii_may_be_a_list() -> None:
    model, images, labels = far_from_the_limits(3)
    rounds = [Round(1.0, 3, 1, [2.0, 1.0])]
    assert a3(model, images, labels, eps=0.1, rounds=rounds).shape == images.shape


def test_no_images_are_no_work() -> None:
    model = ManyClasses(3)
    assert a3(model, torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.int64), eps=0.1).shape == (0, *SHAPE)


@pytest.mark.parametrize("wrong", [Round(0.0, 5), Round(1.1, 5), Round(1.0, 0), Round(1.0, 5, 0), Round(1.0, 5, 1, ()),
                                   Round(1.0, 5, 1, (2.0,)), Round(1.0, 5, 1, (0.5, 1.0))])
def test_rounds_that_are_none_are_refused(wrong: Round) -> None:
    with pytest.raises(InputError, match=r"a3 got Round\(.*\); a share lies in \(0, 1\], steps and restarts are at le"):
        a3(ManyClasses(3), torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.int64), eps=0.1,
           rounds=(*ROUNDS["linf"], wrong))


def test_two_classes_and_a_model_that_is_wrong_already() -> None:
    def model(images: Tensor) -> Tensor:
        value = images[:, 0, 0, 0] - 0.7
        return torch.stack([-value, value], 1)
    images = torch.full((3, *SHAPE), 0.5)
    assert torch.equal(a3(model, images, torch.ones(3, dtype=torch.int64), eps=0.1), images)
    assert (predict(model, a3(model, images, torch.zeros(3, dtype=torch.int64), eps=0.25)) == 1).all()


def test_a_way_in_from_larger_balls_passes_a_threshold_that_has_no_gradient() -> None:
    """The first layer cuts off changes up to 0.3, as that of a network trained against them; one pixel is enough."""
    def model(images: Tensor) -> Tensor:
        changed = (images - 0.3).relu().flatten(1) @ 0.3 ** torch.arange(16) - 0.05
        return torch.stack([-changed, changed], 1)
    images, labels = torch.zeros(20, *SHAPE), torch.zeros(20, dtype=torch.int64)
    straight = a3(model, images, labels, eps=0.5, norm="l2", rounds=(Round(1.0, 30, 3),))
    inward = a3(model, images, labels, eps=0.5, norm="l2", rounds=(Round(1.0, 8, 6, (8.0, 3.0, 1.5, 1.0)),))
    assert (predict(model, straight) == labels).all()
    assert (predict(model, inward) != labels).all() and (distance(inward, images, "l2") <= 0.5).all()


def test_what_points_out_of_the_pixels_range_is_no_part_of_a_step() -> None:
    points, gradient = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5]), torch.tensor([-1.0, 2.0, 3.0, -4.0, 5.0])
    assert _feasible(points, gradient).tolist() == [0.0, 2.0, 0.0, -4.0, 5.0]
