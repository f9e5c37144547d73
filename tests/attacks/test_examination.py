"""The record of a suite after the audit and the adaptive stage: the lowest accuracy, and which attack found it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from parapet.attacks import examine, run_suite
from parapet.attacks.audit import CHEAP, CHEAP_CHECKS, AuditBudget
from parapet.attacks.compositions import catalogue
from parapet.store.consistency import problems
from tests.attacks import maskers
from tests.attacks.audit.training import trained_plainly


@pytest.fixture(scope="module")
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.split("validation", limit=120).all()


# As little as for a candidate of a search, but with the adaptive stage.
BUDGET = replace(CHEAP, stages=None)


def _examined(model: Any, images: tuple[Tensor, Tensor], attack: str, rows: Tensor, limits: AuditBudget = BUDGET,
              **options: Any) -> tuple[dict[str, Any], dict[str, Any], Tensor, dict[str, Any]]:
    record, adversarial = run_suite(model, *images, norm="linf", eps=0.2, suite=[catalogue("linf")[attack]],
                                    generator=torch.Generator().manual_seed(0))
    return (record, *examine(model, *images, record, adversarial, rows, norm="linf", eps=0.2, seed=0,
                             checks=CHEAP_CHECKS, limits=limits, **options))


def test_a_suite_that_the_audit_beats_is_beaten_on_all_images(digits, images) -> None:
    """One step leaves much of a net that was trained on single steps; forty of the images are audited, and all of them
    are settled."""
    network = trained_plainly(digits, epochs=30, fgsm_eps=0.4)
    before, record, adversarial, report = _examined(network, images, "fgsm", torch.arange(40))
    assert record["robust_accuracy"] < before["robust_accuracy"] - 0.2 and report["settled"]["by"] == "rapid"
    assert list(record["attacks"]) == ["fgsm", "audit", "adaptive"]
    assert record["attacks"]["adaptive"]["left"] == record["robust_accuracy"] and list(problems(record)) == []
    sentence = 'The robust accuracy comes from the adaptive attacks, mostly "rapid": they broke '
    assert report["settled"]["sentence"].startswith(sentence)
    right = network(adversarial).argmax(1) == images[1]
    assert float(right.double().mean()) == pytest.approx(record["robust_accuracy"])


def test_of_an_honest_net_the_suite_has_the_number(honest, images) -> None:
    before, record, _, report = _examined(honest.network, images, "rapid", torch.arange(60))
    assert report["settled"] == {"by": None, "stages": [], "sentence": "The suite's robust accuracy holds: the audit "
                                 "broke no more than one image in a hundred beyond it."}
    assert list(record["attacks"]) == ["rapid", "audit"] and list(problems(record)) == []
    assert record["robust_accuracy"] >= before["robust_accuracy"] - 0.01
    assert report["rows"] == list(range(60))


def test_a_masked_net_shows_its_true_number(undefended, images) -> None:
    _, record, _, report = _examined(maskers.gradient_killed(undefended.network), images, "pgd_margin",
                                     torch.arange(60))
    assert report["verdict"] == "fail" and report["settled"]["by"] is not None
    assert record["robust_accuracy"] <= 0.05 and list(problems(record)) == []


def test_candidates_of_a_search_all_meet_the_same_attacks(digits, images) -> None:
    """An adaptive stage for some of them would make their numbers no longer comparable."""
    network = trained_plainly(digits, epochs=30, fgsm_eps=0.4)
    _, record, _, report = _examined(network, images, "fgsm", torch.arange(40), CHEAP)
    assert list(record["attacks"]) == ["fgsm", "audit"] and report["settled"]["by"] == "audit"
    assert report["settled"]["sentence"].startswith("The robust accuracy comes from the audit: ")


def test_an_honest_candidate_passes_with_the_little_that_is_asked_of_it(honest, images) -> None:
    told: list[tuple[str, float]] = []
    _, _, _, report = _examined(honest.network, images, "pgd_margin", torch.arange(100), CHEAP,
                                progress=lambda name, share: told.append((name, share)))
    names = [f"audit {name.replace('_', ' ')}" for name in CHEAP_CHECKS]
    assert {name for name, _ in told} == {*names, "adaptive attacks"}
    assert [share for _, share in told] == pytest.approx([place / len(names) for place in range(len(names) + 1)])
    assert report["verdict"] == "pass", [check for check in report["checks"] if check["verdict"] != "pass"]
