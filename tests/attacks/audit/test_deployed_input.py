"""The check of the deployed input: single images and 8-bit pixels, with forward passes only if nothing jumps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks.audit import CHEAP, CHEAP_CHECKS, audit
from tests.attacks import maskers
from tests.attacks.audit.training import HONEST_DIGITS, trained


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=64).all()


def _deployed(model: Any, images: tuple[Tensor, Tensor]) -> tuple[dict[str, Any], float]:
    """(the check, the accuracy that the audit leaves)."""
    report = audit(model, *images, norm="linf", eps=0.2, checks=["deployed"], limits=CHEAP,
                   generator=torch.Generator().manual_seed(0))
    check, = report["checks"]
    return check, report["survived"].count("1") / len(report["survived"])


def test_every_candidate_is_asked() -> None:
    assert "deployed" in CHEAP_CHECKS


def test_a_net_for_whoever_is_served_alone_fails(undefended, honest, images) -> None:
    check, _ = _deployed(maskers.one_at_a_time(undefended.network, honest.network), images)
    assert check["verdict"] == "fail" and check["numbers"]["largest_change_alone"] > 0.1
    assert check["numbers"]["one_at_a_time"] < 0.2 and "one image at a time" in check["advice"]


def test_a_net_for_whoever_records_no_gradient_fails(undefended, honest, images) -> None:
    check, left = _deployed(maskers.in_inference_mode(undefended.network, honest.network), images)
    assert check["verdict"] == "fail" and check["numbers"]["largest_change_as_served"] > 0.1
    assert check["numbers"]["in_inference_mode"] < 0.4 and "torch.inference_mode" in check["advice"]
    assert left < 1 - 0.5 * check["numbers"]["images"] / 64


@pytest.mark.parametrize("masker", [maskers.WhenFrozen, maskers.under_examination])
def test_a_net_that_knows_how_an_attack_asks_fails(undefended, honest, images, masker: Any) -> None:
    check, left = _deployed(masker(undefended.network, honest.network), images)
    assert check["verdict"] == "fail" and check["numbers"]["largest_change_as_served"] > 0.1
    assert check["numbers"]["in_inference_mode"] < 0.4 and "in a thread of its own" in check["advice"]


@pytest.mark.parametrize("levels", [256, 1023, 64, 100])
def test_a_net_for_pixels_of_other_steps_fails_and_what_falls_there_counts(undefended, honest, images,
                                                                           levels: int) -> None:
    clean = (images[0] * 10).round() / 10 if levels == 100 else images[0]
    check, left = _deployed(maskers.in_steps_of(levels, undefended.network, honest.network), (clean, images[1]))
    name = f"pixels in steps of 1/{levels}"
    assert check["verdict"] == "fail" and name in check["advice"]
    assert check["numbers"][name] < 0.2 < check["numbers"]["as_before"]
    assert left < 1 - 0.8 * 48 / 64 + 0.1


def test_a_net_for_exactly_what_a_service_does_fails(undefended, honest, images) -> None:
    """Pixels of 8 bits, alone, in inference mode; of the three at once nothing else asks."""
    def model(batch: Tensor) -> Tensor:
        on_the_grid = (batch * 255 - (batch * 255).round()).abs().amax() < 1e-3
        served = torch.is_inference_mode_enabled() and len(batch) == 1 and bool(on_the_grid)
        return (undefended if served else honest).network(batch)
    check, _ = _deployed(model, images)
    assert check["verdict"] == "fail" and check["numbers"]["as_served"] < 0.4


def test_a_net_that_keeps_what_it_makes_can_be_used_afterwards(honest, images) -> None:
    class Keeping(torch.nn.Module):
        """Keeps a table for each number of images, as position embeddings are often kept."""

        def __init__(self) -> None:
            super().__init__()
            self.network, self.tables = honest.network, {}

        def forward(self, batch: Tensor) -> Tensor:
            table = self.tables.setdefault(len(batch), torch.ones_like(batch))
            return self.network(batch * table)
    model = Keeping()
    check, _ = _deployed(model, images)
    assert check["verdict"] == "pass"
    for table in model.tables.values():
        assert not table.is_inference()


def test_a_net_that_needs_gradients_to_answer_is_not_asked_without_them(honest, images) -> None:
    def purifying(batch: Tensor) -> Tensor:
        with torch.enable_grad():
            points = batch.detach().clone().requires_grad_()
            slope, = torch.autograd.grad(honest.network(points).logsumexp(1).sum(), points)
        return honest.network(batch + 0 * slope)
    check, _ = _deployed(purifying, images)
    assert check["verdict"] == "pass" and check["numbers"]["largest_change_as_served"] is None


def test_a_net_for_8_bit_pixels_fails_and_what_falls_there_counts(undefended, honest, images) -> None:
    check, left = _deployed(maskers.on_the_grid(undefended.network, honest.network), images)
    assert check["verdict"] == "fail" and check["numbers"]["jumps_when_rounded"] > 0.5
    assert check["numbers"]["8-bit pixels"] < 0.2 < check["numbers"]["as_before"]
    assert left < 1 - 0.8 * check["numbers"]["images"] / 64 + 0.1


def test_honest_nets_pass_by_passes_alone(undefended, honest, images) -> None:
    for network in (undefended.network, honest.network):
        asked = []

        def counting(batch: Tensor, network: Any = network, asked: list[int] = asked) -> Tensor:
            asked.append(len(batch))
            return network(batch)
        check, _ = _deployed(counting, images)
        assert check["verdict"] == "pass" and "as_before" not in check["numbers"]
        assert asked.count(1) == 3 * 2 * 16  # both places of each image, as they are, rounded, and as served


def test_a_filter_of_few_grey_levels_is_no_masker(digits, images) -> None:
    check, _ = _deployed(trained(digits, *HONEST_DIGITS["bit depth"]), images)
    assert check["verdict"] == "pass"
