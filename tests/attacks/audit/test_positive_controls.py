"""Networks that only look robust fail the audit, whatever they use to mask gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parapet.attacks import auto_attack
from parapet.attacks.audit import FULL, AuditBudget, audit
from tests.attacks import maskers
from tests.attacks.audit.training import trained_plainly

# Less work than by default, which makes it harder to find them out.
BUDGET = AuditBudget(pgd_steps=20, targeted_steps=20, square_queries=500, decision_queries=300, decision_images=10,
                     noise_draws=200)


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=70).all()


@pytest.fixture(scope="module")
def more_images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=150).all()


def _failed(model, images: tuple[Tensor, Tensor], eps: float = 0.2, limits: AuditBudget = BUDGET) -> set[str]:
    torch.manual_seed(0)  # for maskers that draw from the global generator
    result = audit(model, *images, norm="linf", eps=eps, generator=torch.Generator().manual_seed(0), limits=limits)
    failed = {check["id"] for check in result["checks"] if check["verdict"] == "fail"}
    assert (result["verdict"] == "fail") == bool(failed)
    return failed


# What is done to an undefended network, and a check that has to see it, or either of two.
MASKERS = {
    maskers.sign_quantised: "gradients", maskers.gradient_killed: "gradients", maskers.no_graph: "gradients",
    maskers.Noisy: "well_formed", maskers.bit_depth_without_bpda: "gradients",
    maskers.thermometer: "gradients", maskers.gradient_turned: "uphill", maskers.gradient_noise: "uphill",
    maskers.gradient_replaced: "uphill", maskers.gradient_nan: "gradients", maskers.gradient_sparse: "uphill",
    maskers.gradient_underflow: "gradients", maskers.rounded_logits: "gradients", maskers.one_hot: "gradients",
    maskers.one_hot_through: "gradients", maskers.clipped_logits: "gradients", maskers.shattered: "uphill",
    maskers.squashed_input: "black_box or uphill", maskers.probabilities: "well_formed",
    maskers.batch_dependent: "well_formed", maskers.Detector: "uphill", maskers.Tired: "well_formed",
    maskers.Memo: "memory",
}


@pytest.mark.parametrize("masker", MASKERS, ids=lambda masker: masker.__name__)
def test_an_undefended_net_behind_a_masker_fails(undefended, images, masker) -> None:
    assert _failed(masker(undefended.network), images) & set(MASKERS[masker].split(" or "))


@pytest.mark.parametrize("masker", [maskers.gradient_turned, maskers.rounded_logits],
                         ids=lambda masker: masker.__name__)
def test_even_a_robust_net_must_not_mask(honest, images, masker) -> None:
    assert MASKERS[masker] in _failed(masker(honest.network), images)


def test_gradients_that_are_there_for_the_clean_images_alone_fail(undefended, images) -> None:
    model = maskers.gradient_far_from_data(images[0])(undefended.network)
    assert {"gradients", "order", "black_box"} <= _failed(model, images)


def test_what_hides_nothing_is_broken_and_reported_so(undefended, images) -> None:
    """Noise that is a function of the image is no shield: the attacks get through, and the audit shows it."""
    result = audit(maskers.hashed_noise(undefended.network), *images, norm="linf", eps=0.2,
                   generator=torch.Generator().manual_seed(0), limits=BUDGET)
    assert result["survived"].count("1") <= 2


def _audited(model, images: tuple[Tensor, Tensor], eps: float = 0.2) -> tuple[dict, float, float]:
    """(the checks, accuracy in the audit, accuracy under the strongest attack that we have on the network itself)."""
    result = audit(model, *images, norm="linf", eps=eps, generator=torch.Generator().manual_seed(0), limits=BUDGET)
    points = auto_attack(model, *images, eps=eps, version="rapid", generator=torch.Generator().manual_seed(1))
    shown = result["survived"].count("1") / len(result["survived"])
    return {check["id"]: check for check in result["checks"]}, shown, float((model(points).argmax(1) == images[1])
                                                                             .double().mean())


def test_logits_that_hide_from_cross_entropy_alone_are_taken_into_account(undefended, honest, images) -> None:
    for network in (undefended.network, honest.network):
        checks, shown, true = _audited(maskers.logits_times_1000(network), images)
        assert {name for name, check in checks.items() if check["verdict"] == "fail"} == set()
        assert checks["gradients"]["advice"].startswith("Taken into account: ") and shown <= true + 0.02


def test_of_a_label_smoothed_plain_net_the_number_is_right(digits, more_images) -> None:
    """Smoothed labels flatten cross-entropy: PGD on it reports points that the margin takes away."""
    net = trained_plainly(digits, epochs=40, activation="silu", label_smoothing=0.88)
    checks, shown, true = _audited(net, more_images, eps=0.12)
    assert checks["margin"]["numbers"]["pgd_ce"] - checks["margin"]["numbers"]["pgd_margin"] > 0.05
    assert checks["margin"]["verdict"] == "pass" and checks["margin"]["advice"].startswith("Taken into account: ")
    assert shown <= true + 0.02


def test_the_same_net_without_smoothing_does_not(digits, more_images) -> None:
    assert not _failed(trained_plainly(digits, epochs=40, activation="silu"), more_images, eps=0.12, limits=FULL)


def test_of_a_collapsed_net_the_number_is_right(digits, more_images) -> None:
    """Trained on single steps without a random start, a net learns to fool single steps."""
    checks, shown, true = _audited(trained_plainly(digits, epochs=30, fgsm_eps=0.4), more_images)
    assert checks["alignment"]["verdict"] == "pass" and "catastrophic overfitting" in checks["alignment"]["advice"]
    assert shown <= true + 0.02
