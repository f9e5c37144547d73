"""Auto-PGD: its schedule, its losses by hand, and that it beats plain PGD at equal steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks import apgd, pgd
from parapet.attacks.balls import LinfBall
from parapet.attacks.gradient.apgd import _adapt, _State, checkpoints, other_classes
from parapet.attacks.objectives import dlr, targeted_dlr
from parapet.errors import InputError
from tests.attacks.linear import SHAPE, Linear, ManyClasses, far_from_the_limits


def test_the_step_size_is_looked_at_where_the_paper_says() -> None:
    # p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 (section 3.2), one less because steps count from 0.
    assert sorted(checkpoints(100)) == [21, 40, 56, 69, 79, 86, 92, 98]


def test_dlr_by_hand() -> None:
    logits = torch.tensor([[5.0, 1.0, 3.0, 2.0], [5.0, 1.0, 3.0, 2.0]])
    # -(z_y - max other) / (z_1st - z_3rd): -(5 - 3)/(5 - 2) and -(1 - 5)/(5 - 2)
    assert dlr(logits, torch.tensor([0, 1])).tolist() == pytest.approx([-2 / 3, 4 / 3])


def test_targeted_dlr_by_hand() -> None:
    logits = torch.tensor([[5.0, 1.0, 3.0, 2.0]])
    # -(z_y - z_t) / (z_1st - (z_3rd + z_4th)/2): -(5 - 1) / (5 - 1.5)
    assert targeted_dlr(torch.tensor([1]))(logits, torch.tensor([0])).tolist() == pytest.approx([-4 / 3.5])


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_dlr_does_not_depend_on_scale_and_shift(scale: float) -> None:
    logits = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(20) % 6
    assert torch.allclose(dlr(logits * scale + 7, labels), dlr(logits, labels), atol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_fall_back_to_the_difference_of_logits(classes: int) -> None:
    model = ManyClasses(classes)
    images = 0.4 + 0.2 * torch.rand(16, *SHAPE, generator=torch.Generator().manual_seed(2))
    labels = model(images).argmax(1)
    far = model.exact_distances(images, labels, "linf")
    for options in ({"loss": "dlr"}, {"targets": 9}):
        found = apgd(model, images, labels, eps=float(far.median()) + 1e-3, **options)
        assert ((model(found).argmax(1) != labels).float().mean()) >= 0.5


def test_targets_are_the_largest_other_logits() -> None:
    def model(images: Tensor) -> Tensor:
        return torch.tensor([[0.0, 3.0, 2.0, 1.0]]).expand(len(images), 4)
    assert other_classes(model, torch.zeros(1, *SHAPE), torch.tensor([2]), 2).tolist() == [[1, 3]]
    assert other_classes(model, torch.zeros(1, *SHAPE), torch.tensor([2]), 9).tolist() == [[1, 3, 0]]


def test_it_finds_at_least_what_pgd_finds_with_as_many_steps(honest, digits) -> None:
    images, labels = digits.split("validation").all()

    def accuracy(attack, **options) -> float:
        found = attack(honest.network, images, labels, eps=0.2, generator=torch.Generator().manual_seed(0), **options)
        return float((honest.network(found).argmax(1) == labels).float().mean())
    plain = accuracy(pgd, steps=50, early_stop=True)
    assert accuracy(apgd, steps=50, early_stop=True) <= plain + 0.005
    assert accuracy(apgd, steps=50, targets=9, early_stop=True) < plain


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_early_stop_changes_the_work_and_not_the_outcome(honest, digits, norm: str) -> None:
    images, labels = digits.split("test", limit=100).all()
    ends = [honest.network(apgd(honest.network, images, labels, eps=0.2 if norm == "linf" else 1.0, norm=norm, steps=20,
                                targets=3, early_stop=early, generator=torch.Generator().manual_seed(0))).argmax(1)
            != labels for early in (False, True)]
    assert (ends[0] == ends[1]).float().mean() >= 0.99


def test_unbroken_images_come_back_at_their_largest_loss(honest, digits) -> None:
    images, labels = digits.split("test", limit=40).all()
    losses = []
    for steps in (5, 25):
        found = apgd(honest.network, images, labels, eps=0.01, steps=steps, generator=torch.Generator().manual_seed(0))
        losses.append(torch.nn.functional.cross_entropy(honest.network(found), labels).item())
    clean = torch.nn.functional.cross_entropy(honest.network(images), labels).item()
    assert clean < losses[0] <= losses[1] + 1e-4


def test_wrong_options_are_told() -> None:
    images, labels = torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1])
    with pytest.raises(InputError, match="apgd got steps=0, restarts=1, targets=None; each must be at least 1."):
        apgd(Linear(torch.ones(16), 0.0), images, labels, eps=0.1, steps=0)
    with pytest.raises(InputError, match="loss is 'cw'; allowed: ce, margin, dlr"):
        apgd(Linear(torch.ones(16), 0.0), images, labels, eps=0.1, loss="cw")


def test_the_first_step_is_two_radii() -> None:
    """From the random start along the gradient, then back to the sphere of the ball."""
    model, images, labels = far_from_the_limits(6)
    seen: list[Tensor] = []

    def asked(points: Tensor) -> Tensor:
        seen.append(points.detach().clone())
        return model(points)
    apgd(asked, images, labels, eps=0.1, norm="l2", steps=1, generator=torch.arange(6))
    weight = model.weight.detach().reshape(SHAPE)
    away = torch.where(labels == 0, -1.0, 1.0).reshape(-1, 1, 1, 1) * weight / weight.norm()
    offset = (seen[0] - images + 2 * 0.1 * away).flatten(1)
    expected = images + 0.1 * (offset / offset.norm(dim=1, keepdim=True)).reshape(images.shape)
    assert torch.allclose(seen[1], expected, atol=1e-5) and not torch.allclose(seen[0], images, atol=0.01)


def test_the_step_size_is_halved_at_every_look_where_no_step_raised_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a linear model the first step reaches the corner of the ball, and every later one the same point again."""
    model, images, labels = far_from_the_limits(6)
    sizes: list[float] = []
    step = LinfBall.step

    def recorded(self: LinfBall, points: Tensor, gradient: Tensor, size: Tensor) -> Tensor:
        sizes.append(float(size.unique()))  # of all images the same
        return step(self, points, gradient, size)
    monkeypatch.setattr(LinfBall, "step", recorded)
    apgd(model, images, labels, eps=0.01, steps=100, generator=torch.arange(6))
    looks = [21, 40, 56, 69, 79, 86, 92, 98]
    assert sizes == pytest.approx([0.02 / 2 ** sum(look < place for look in looks) for place in range(100)])


def test_when_the_step_size_is_halved() -> None:
    """Condition 1: too few of the steps rose. Condition 2: no new best since a look that did not halve it."""
    count = 4
    flags, zeros = torch.zeros(count, dtype=torch.bool), torch.zeros(count)
    points, best = torch.zeros(count, *SHAPE), torch.ones(count, *SHAPE)
    state = _State(
        labels=torch.zeros(count, dtype=torch.long), owners=None, targets=None, points=points, previous=points,
        gradient=points, value=zeros, best=best, best_gradient=best, fooling=points, broken=flags,
        size=torch.ones(count, 1, 1, 1),
        # three of four steps are no more than 0.75; then no new best, once after a look that did not halve, once after
        # one that did; then a new best
        rises=torch.tensor([3.0, 4.0, 4.0, 4.0]), halved=torch.tensor([False, False, True, False]),
        checked_value=torch.tensor([1.0, 1.0, 1.0, 1.0]), best_value=torch.tensor([2.0, 1.0, 1.0, 2.0]))
    _adapt(state, 4, 0.75)
    assert state.size.flatten().tolist() == [0.5, 0.5, 1.0, 1.0]
    assert state.halved.tolist() == [True, True, False, False]
    # Who is halved goes back to the best point, and its gradient.
    assert state.points.flatten(1).amax(1).tolist() == state.gradient.flatten(1).amax(1).tolist() == [1, 1, 0, 0]
    assert state.rises.tolist() == [0.0] * 4 and state.checked_value.tolist() == [2.0, 1.0, 1.0, 2.0]


def test_each_option_out_of_range_is_told() -> None:
    model, images, labels = far_from_the_limits(2)
    for options in ({"steps": 0}, {"restarts": 0}, {"targets": 0}):
        with pytest.raises(InputError, match="each must be at least 1"):
            apgd(model, images, labels, eps=0.1, **options)
    for rho in (0.0, 1.0):
        with pytest.raises(InputError, match="it must lie in"):
            apgd(model, images, labels, eps=0.1, rho=rho)
