"""The centres' geometry, the loss by hand, and the attack on the distances."""

from __future__ import annotations

import pytest
import torch

from parapet.attacks import pgd
from parapet.attacks.gradients import input_gradient
from parapet.attacks.objectives import cross_entropy
from parapet.errors import InputError
from parapet.training.losses import centre_logits, centre_margin, logit_centres, max_mahalanobis
from parapet.training.losses.max_mahalanobis import centres
from tests.training.losses.two_pixels import Pixels, image


@pytest.mark.parametrize("classes, features", [(2, 1), (2, 2), (3, 2), (10, 9), (10, 10), (10, 64), (100, 128)])
def test_centres_have_equal_norms_and_lie_as_far_apart_as_can_be(classes: int, features: int) -> None:
    found = centres(classes, features, scale=10.0).double()
    assert found.shape == (classes, features)
    _is_simplex(found)


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_the_nearest_of_the_turned_centres_is_that_of_the_largest_output(classes: int) -> None:
    found = logit_centres(classes, scale=10.0)
    _is_simplex(found.double())
    outputs = torch.randn(50, classes, generator=torch.Generator().manual_seed(0)) * 5
    assert torch.equal(centre_logits(outputs, found).argmax(1), outputs.argmax(1))


def _is_simplex(found: torch.Tensor) -> None:
    classes = len(found)
    cosines = found @ found.T / 100
    expected = torch.full((classes, classes), -1 / (classes - 1), dtype=torch.float64).fill_diagonal_(1)
    assert torch.allclose(cosines, expected, atol=1e-6)


def test_the_last_centre_needs_no_dimension_of_its_own() -> None:
    for classes in range(2, 101):
        assert centres(classes, classes)[-1, -1] == 0


def test_three_centres_in_the_plane_by_hand() -> None:
    # A triangle on the unit circle: (1, 0), (-1/2, sqrt(3)/2), (-1/2, -sqrt(3)/2).
    half = 3**0.5 / 2
    assert torch.allclose(centres(3, 2, 1.0), torch.tensor([[1.0, 0.0], [-0.5, half], [-0.5, -half]]))


def test_the_loss_by_hand_on_clean_or_adversarial_images() -> None:
    # Two centres on a line, at 1 and -1 along the first of two outputs.
    means = centres(2, 2, 1.0)
    assert torch.equal(means, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    # z = (0.5, 1), label 0: half of 0.25 + 1. z = (0, 1): half of 1 + 1.
    loss, _ = max_mahalanobis(Pixels(), image(0.5, 1.0), torch.tensor([0]), centres=means)
    assert float(loss) == pytest.approx(0.625)
    loss, pieces = max_mahalanobis(Pixels(), image(0.5, 1.0), torch.tensor([0]), image(0.0, 1.0), centres=means)
    assert float(loss) == float(pieces["centre_loss"]) == pytest.approx(1.0)


def test_the_distances_and_their_margin_by_hand() -> None:
    means, outputs = centres(2, 2, 1.0), torch.tensor([[0.5, 1.0]])
    assert torch.allclose(centre_logits(outputs, means), torch.tensor([[-1.25, -3.25]]))
    assert float(centre_margin(means)(outputs, torch.tensor([0]))) == pytest.approx(-2.0)
    assert float(centre_margin(means)(outputs, torch.tensor([1]))) == pytest.approx(2.0)


def test_cross_entropy_of_the_distances_sees_no_gradient_and_their_margin_breaks_it() -> None:
    means, clean, label = logit_centres(2, 100.0), image(0.6, 0.4), torch.tensor([0])

    class Nearest(Pixels):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return centre_logits(super().forward(images), means)

    model = Pixels(factor=100.0)
    _, _, gradient = input_gradient(Nearest(factor=100.0), clean, label, cross_entropy)
    assert (gradient == 0).all()
    found = pgd(model, clean, label, eps=0.15, steps=10, loss=centre_margin(means),
                generator=torch.Generator().manual_seed(0))
    assert int(model(found).argmax(1)) == 1


def test_impossible_centres_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        centres(10, 8)
    assert str(caught.value) == ("10 Max-Mahalanobis centres in 8 dimensions were asked for; there must be at least 2, "
                                 "and at least one dimension less than centres.")
    with pytest.raises(InputError) as caught:
        logit_centres(1)
    assert str(caught.value) == "1 Max-Mahalanobis centres were asked for; there must be at least 2."
