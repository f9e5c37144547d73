"""Each published method on the digits: at equal epochs 30 points more than training without attacks, under PGD."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from parapet.attacks import evaluate, pgd_suite
from parapet.genome import Genome
from parapet.training.loop import Trained
from tests.conftest import DIGITS_EPS, train_digits

EPOCHS = 8
METHODS: dict[str, dict[str, Any]] = {
    "pgd": {"loss": "pgd"},
    "fgsm": {"loss": "pgd", "crafting": "fgsm"},
    "n_fgsm": {"loss": "pgd", "crafting": "n_fgsm"},
    "ensemble": {"loss": "pgd", "crafting": "ensemble", "clean_share": 0.5},
    "trades": {"loss": "trades"},
    "mart": {"loss": "mart"},
    "morel with trades": {"loss": "trades", "morel": 0.1, "morel_alpha": 1e-5},
    "morel with mart": {"loss": "mart", "morel": 0.1, "morel_alpha": 1e-5},
    "weight perturbation": {"loss": "trades", "weight_perturbation": 0.005},
    "input gradient": {"loss": "pgd", "clean_share": 0.5, "input_gradient": 0.1},
    "gradient alignment": {"loss": "pgd", "crafting": "fgsm", "gradient_alignment": 0.2},
}
# Known to hold little or nothing by themselves; their figures are printed, whatever they are (`pytest -s`).
EXEMPT: dict[str, dict[str, Any]] = {
    "logit pairing": {"loss": "alp", "pairing": 0.5},
    "logit squeezing alone": {"loss": "standard", "logit_squeezing": 0.05},
    "label smoothing alone": {"loss": "standard", "label_smoothing": 0.2},
    "distillation": {"loss": "distillation", "temperature": 20.0},
    "max-mahalanobis centres": {"loss": "max_mahalanobis"},
}


def _robust(trained: Trained, digits) -> float:
    images, labels = digits.split("test").all()
    return evaluate(trained.network, images, labels, norm="linf", eps=DIGITS_EPS,
                    generator=torch.Generator().manual_seed(0),
                    suite=pgd_suite(pgd_steps=20, pgd_restarts=1))["robust_accuracy"]


def _genome(changes: dict[str, Any]) -> Genome:
    return Genome(**{"width": 8, "depth": 2, "activation": "silu", "steps": 2, "learning_rate": 0.4, **changes})


@pytest.mark.parametrize("name", METHODS)
def test_a_method_beats_standard_training_by_thirty_points(digits, undefended, name: str) -> None:
    assert _robust(train_digits(digits, _genome(METHODS[name]), EPOCHS), digits) >= _robust(undefended, digits) + 0.3


@pytest.mark.parametrize("name", EXEMPT)
def test_what_is_exempt_trains_and_its_figure_is_printed(digits, name: str) -> None:
    trained = train_digits(digits, _genome(EXEMPT[name]), EPOCHS)
    clean = trained.curves[-1]["validation_clean_accuracy"]
    print(f"{name}: clean {clean:.1%}, robust {_robust(trained, digits):.1%} (digits, L-inf {DIGITS_EPS})")
    assert clean > 0.8
