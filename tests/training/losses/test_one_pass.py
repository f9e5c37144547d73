"""What one forward pass over clean, adversarial and noisy images gives to the losses."""

from __future__ import annotations

import pytest
import torch

from parapet.training.losses import mart, one_pass
from tests.training.losses.two_pixels import Pixels, image


def test_each_version_has_its_own_rows_and_what_is_left_out_has_none() -> None:
    found = one_pass(Pixels(), clean=image(1.0, 0.0), noisy=image(0.0, 3.0))
    assert torch.equal(found.clean, Pixels()(image(1.0, 0.0))) and torch.equal(found.noisy, Pixels()(image(0.0, 3.0)))
    assert found.adversarial is None


def test_a_loss_refuses_logits_without_a_version_that_it_needs() -> None:
    clean = image(1.0, 0.0)
    with pytest.raises(TypeError, match="the given logits lack a version of the images that the loss needs"):
        mart(Pixels(), clean, torch.tensor([0]), clean, logits=one_pass(Pixels(), clean=clean))
