"""The settings of every attack that has a name: those of AutoAttack are published, the others customary."""

from __future__ import annotations

from typing import Any

import pytest

from parapet.attacks import Attack
from parapet.attacks.compositions import auto_attack_suite, catalogue, full_suite, named_suite, pgd_suite, search_suite
from parapet.catalogue.attacks import FULL_SUITE, SEARCH_SUITES
from parapet.errors import InputError

# Croce and Hein 2020, section 5, and the options of their code: 100 iterations, 9 target classes, 5,000 queries.
APGD_CE: tuple[str, str, dict[str, Any]] = ("apgd_ce", "apgd", {"steps": 100, "loss": "ce"})
APGD_DLR: tuple[str, str, dict[str, Any]] = ("apgd_dlr", "apgd", {"steps": 100, "loss": "dlr"})
APGD_T: tuple[str, str, dict[str, Any]] = ("apgd_t", "apgd", {"steps": 100, "targets": 9})
FAB_T: tuple[str, str, dict[str, Any]] = ("fab_t", "fab", {"steps": 100, "targets": 9})
SQUARE: tuple[str, str, dict[str, Any]] = ("square", "square", {"queries": 5000})
AUTO = {
    "standard": [APGD_CE, APGD_T, FAB_T, SQUARE],
    "plus": [("apgd_ce", "apgd", {"steps": 100, "loss": "ce", "restarts": 5}),
             ("apgd_dlr", "apgd", {"steps": 100, "loss": "dlr", "restarts": 5}),
             ("fab", "fab", {"steps": 100, "targets": None, "restarts": 5}), SQUARE, APGD_T, FAB_T],
    "rand": [APGD_CE, APGD_DLR],
    "rapid": [("rapid", "rapid", {})],
}
PGD = [("fgsm", "fgsm", {}), ("pgd_ce", "pgd", {"steps": 40, "restarts": 1, "loss": "ce"}),
          ("pgd_margin", "pgd", {"steps": 40, "restarts": 1, "loss": "margin"})]
CATALOGUE = [
    *PGD, ("pgd_100", "pgd", {"steps": 100, "loss": "ce"}),
    ("pgd_margin_10", "pgd", {"steps": 100, "restarts": 10, "loss": "margin"}), ("mi_fgsm", "mi_fgsm", {}),
    *AUTO["standard"], APGD_DLR, *AUTO["rapid"], ("deepfool", "deepfool", {"steps": 50, "classes": 10}),
    ("hop_skip_jump", "hop_skip_jump", {"queries": 5000}),
    ("uniform_noise", "random_noise", {"kind": "uniform", "draws": 1000}),
    ("corner_noise", "random_noise", {"kind": "corner", "draws": 1000}),
]
NEAREST = {"rays", "fab", "fab_t", "deepfool", "hop_skip_jump", "carlini_wagner"}


def _settings(suite: list[Attack]) -> list[tuple[str, str, dict[str, Any]]]:
    for attack in suite:
        assert attack.minimum_norm == (attack.name in NEAREST)
        assert attack.takes_eps == attack.name.startswith(("fab", "rays"))
    return [(attack.name, attack.function.__name__, attack.options) for attack in suite]


@pytest.mark.parametrize("version", AUTO)
def test_autoattack_has_its_published_composition(version: str) -> None:
    assert _settings(auto_attack_suite(version)) == _settings(named_suite(version)) == AUTO[version]
    assert not any(attack.survivors_only for attack in auto_attack_suite(version))


def test_every_attack_by_name_has_its_customary_budget() -> None:
    assert _settings(list(catalogue("linf").values())) == [*CATALOGUE, ("rays", "rays", {"queries": 5000})]
    assert _settings(list(catalogue("l2").values())) == [*CATALOGUE, ("carlini_wagner", "carlini_wagner", {})]
    for norm in ("linf", "l2"):
        assert all(attack.name == name for name, attack in catalogue(norm).items())


def test_the_search_s_suite_is_fgsm_and_a_small_budget_of_rapid() -> None:
    assert _settings(named_suite("search")) == _settings(search_suite()) == [
        ("fgsm", "fgsm", {}), ("rapid", "rapid", {"steps": 8, "queries": 25})]
    assert _settings(search_suite(steps=3, queries=0))[1:] == [("rapid", "rapid", {"steps": 3, "queries": 0})]


def test_the_other_one_is_fgsm_and_pgd_on_two_losses() -> None:
    assert _settings(pgd_suite(pgd_steps=40, pgd_restarts=1)) == PGD
    assert _settings(pgd_suite(pgd_steps=7, pgd_restarts=3))[1:] == [
        ("pgd_ce", "pgd", {"steps": 7, "restarts": 3, "loss": "ce"}),
        ("pgd_margin", "pgd", {"steps": 7, "restarts": 3, "loss": "margin"})]


def test_the_full_suite_is_fgsm_pgd_and_deepfool_then_autoattack_on_the_survivors() -> None:
    suite = named_suite("full")
    assert _settings(suite) == [
        ("fgsm", "fgsm", {}), ("pgd_ce", "pgd", {"steps": 50, "restarts": 2, "loss": "ce"}),
        ("pgd_margin", "pgd", {"steps": 50, "restarts": 2, "loss": "margin"}),
        ("deepfool", "deepfool", {"steps": 30, "classes": 5}), *AUTO["standard"]]
    assert [attack.name for attack in suite if attack.survivors_only] == ["apgd_ce", "apgd_t", "fab_t", "square"]


@pytest.mark.parametrize(("budgets", "left_out"), [
    ({"apgd_steps": 0}, {"apgd_ce", "apgd_t"}), ({"fab_steps": 0}, {"fab_t"}), ({"square_queries": 0}, {"square"}),
    ({"apgd_steps": 1, "fab_steps": 1, "square_queries": 1}, set()),
])
def test_attacks_without_a_budget_are_left_out(budgets: dict[str, int], left_out: set[str]) -> None:
    names = {attack.name for attack in full_suite(pgd_steps=1, pgd_restarts=1, deepfool_steps=1, **budgets)}
    assert {"apgd_ce", "apgd_t", "fab_t", "square"} - names == left_out


def test_unknown_names_are_told() -> None:
    with pytest.raises(InputError, match="allowed: standard, plus, rand"):
        auto_attack_suite("fast")
    with pytest.raises(InputError, match="allowed: search, full, standard, plus, rand"):
        named_suite("fast")


def test_the_suites_hold_what_the_catalogue_says() -> None:
    assert tuple(attack.name for attack in search_suite()) == SEARCH_SUITES["rapid"]
    assert tuple(attack.name for attack in pgd_suite(pgd_steps=1, pgd_restarts=1)) == SEARCH_SUITES["pgd"]
    assert tuple(attack.name for attack in full_suite(pgd_steps=1, pgd_restarts=1, deepfool_steps=1)) == FULL_SUITE
