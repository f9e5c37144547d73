"""MART: by hand, never negative, and nothing but a constant away from the authors' formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from parapet.training.losses import Logits, mart
from tests.training.losses.two_pixels import Pixels, image

LABEL = torch.tensor([0])


@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_one_image_by_hand(beta: float) -> None:
    # Clean logits (1, 0), adversarial ones (0, 1), label 0: p is the sigmoid of 1 on the clean image, 1 - p after it.
    p = 1 / (1 + math.exp(-1))
    boosted = -math.log(1 - p) - math.log(1.0001 - p) + math.log(1.0001)
    divergence = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)
    loss, pieces = mart(Pixels(), image(1.0, 0.0), LABEL, image(0.0, 1.0), beta=beta)
    assert float(loss) == pytest.approx(boosted + beta * (1 - p) * divergence, rel=1e-5)
    assert float(pieces["boosted_loss"]) == pytest.approx(boosted, rel=1e-5)
    assert float(pieces["weighted_divergence"]) == pytest.approx((1 - p) * divergence, rel=1e-5)


def test_the_margin_is_to_the_likeliest_wrong_class() -> None:
    # Adversarial logits (0, log 2, log 3), label 2: p = (1/6, 2/6, 3/6), so the wrong class is 1.
    adversarial = image(0.0, math.log(2), math.log(3))
    loss, _ = mart(Pixels(3), adversarial, torch.tensor([2]), adversarial)
    assert float(loss) == pytest.approx(-math.log(3 / 6) - math.log(1 - 2 / 6 / 1.0001), rel=1e-5)


def test_without_being_told_beta_is_6_and_nothing_is_smoothed() -> None:
    given = Pixels(), image(1.0, 0.0), LABEL, image(0.0, 1.0)
    assert float(mart(*given)[0]) == pytest.approx(float(mart(*given, beta=6.0, smoothing=0.0)[0]), rel=1e-6)


def test_it_never_falls_below_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (0.0, 1e-3, 1.0, 30.0, 1000.0):
        clean, adversarial = torch.randn(2, 64, 5, generator=generator) * scale
        labels = torch.randint(5, (64,), generator=generator)
        for row in range(64):
            part = slice(row, row + 1)
            logits = Logits(clean=clean[part], adversarial=adversarial[part])
            loss, _ = mart(Pixels(), clean, labels[part], adversarial, logits=logits)
            assert float(loss) >= 0 and math.isfinite(float(loss))
    sure = Logits(clean=torch.tensor([[50.0, 0.0]]), adversarial=torch.tensor([[50.0, 0.0]]))
    assert float(mart(Pixels(), clean, LABEL, adversarial, logits=sure)[0]) == 0


def test_its_gradient_is_that_of_the_published_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, adversarial = torch.randn(2, 16, 5, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(5, (16,), generator=generator)
    p, q = clean.softmax(1), adversarial.softmax(1)
    wrong = q.scatter(1, labels[:, None], 0).amax(1)
    doubt = 1.0000001 - p.gather(1, labels[:, None]).squeeze(1)
    published = cross_entropy(adversarial, labels) - torch.log(1.0001 - wrong + 1e-12).mean() \
        + 6 * (doubt * (p * (p.log() - (q + 1e-12).log())).sum(1)).mean()
    ours, _ = mart(Pixels(), clean, labels, adversarial, logits=Logits(clean=clean, adversarial=adversarial))
    assert ours.item() == pytest.approx(published.item() + math.log(1.0001), rel=1e-5)
    for mine, theirs in zip(torch.autograd.grad(ours, (clean, adversarial), retain_graph=True),
                            torch.autograd.grad(published, (clean, adversarial))):
        assert torch.allclose(mine, theirs, atol=1e-6)
