"""The audit: an honest net passes, planted maskers fail."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from parapet.attacks.audit import CHECKS, audit


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=120).all()


def _audit(model, images: tuple[Tensor, Tensor]) -> dict:
    return audit(model, *images, norm="linf", eps=0.2, generator=torch.Generator().manual_seed(0))


def _verdicts(result: dict) -> dict[str, str]:
    return {check["id"]: check["verdict"] for check in result["checks"]}


def test_an_honest_net_is_not_failed(honest, images) -> None:
    result = _audit(honest.network, images)
    assert result["verdict"] != "fail", result
    assert [check["id"] for check in result["checks"]] == list(CHECKS)


class _SignedInput(nn.Module):
    """Rounds pixels to one bit without a surrogate: no gradient flows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images > 0.5).float() + 0 * images.detach())


class _KilledGradient(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.detach()) + 0 * images.sum()


class _Noisy(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + 0.2 * torch.randn_like(images))


def test_inputs_without_a_gradient_fail(honest, images) -> None:
    for masker in (_SignedInput, _KilledGradient):
        result = _audit(masker(honest.network), images)
        assert result["verdict"] == "fail"
        assert _verdicts(result)["gradients"] == "fail"


def test_undeclared_randomness_fails(honest, images) -> None:
    assert _verdicts(_audit(_Noisy(honest.network), images))["well_formed"] == "fail"


def test_probabilities_fail(honest, images) -> None:
    assert _verdicts(_audit(lambda batch: honest.network(batch).softmax(1), images))["well_formed"] == "fail"


def test_a_net_that_is_always_wrong_fails(images) -> None:
    wrong = (images[1] + 1) % 10

    def model(batch: Tensor) -> Tensor:
        return torch.eye(10)[wrong[:len(batch)]] + 0 * batch.sum()
    assert _audit(model, images)["verdict"] == "fail"


def test_saturated_logits_do_not_look_robust(undefended, images) -> None:
    """Logits times 1000 leave cross-entropy without gradients; the net is not robust, and the audit says so."""
    result = _audit(lambda batch: undefended.network(batch) * 1000, images)
    assert result["verdict"] in ("warn", "fail")
    assert any(check["verdict"] != "pass" for check in result["checks"] if check["id"] in ("gradients", "scale",
                                                                                          "margin"))


def test_numbers_stand_behind_every_verdict(honest, images) -> None:
    result = _audit(honest.network, images)
    for check in result["checks"]:
        assert check["numbers"] and check["advice"].endswith(".")
