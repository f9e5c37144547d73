"""Adversarial logit pairing by hand."""

from __future__ import annotations

import math

import pytest
import torch

from parapet.training.losses import adversarial_logit_pairing
from tests.training.losses.two_pixels import Pixels, image


@pytest.mark.parametrize("pairing", [0.0, 0.5, 2.0])
def test_one_image_by_hand(pairing: float) -> None:
    # Logits (1, 0) and (0.5, 1): squared differences 0.25 and 1, whose mean is 0.625.
    clean, robust = math.log(1 + math.exp(-1)), math.log(1 + math.exp(0.5))
    loss, pieces = adversarial_logit_pairing(Pixels(), image(1.0, 0.0), torch.tensor([0]), image(0.5, 1.0),
                                             pairing=pairing)
    assert float(loss) == pytest.approx((clean + robust) / 2 + pairing * 0.625, rel=1e-6)
    assert float(pieces["pair_distance"]) == pytest.approx(0.625)


def test_an_image_paired_with_itself_costs_its_cross_entropy() -> None:
    loss, _ = adversarial_logit_pairing(Pixels(), image(1.0, 0.0), torch.tensor([0]), image(1.0, 0.0), pairing=3.0)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)
