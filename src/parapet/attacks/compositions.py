"""Attacks with names and budgets, and the published compositions of AutoAttack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from parapet.attacks.apgd import apgd
from parapet.attacks.carlini_wagner import carlini_wagner
from parapet.attacks.deepfool import deepfool
from parapet.attacks.fab import fab
from parapet.attacks.fgsm import fgsm
from parapet.attacks.hop_skip_jump import hop_skip_jump
from parapet.attacks.mi_fgsm import mi_fgsm
from parapet.attacks.pgd import pgd
from parapet.attacks.random_noise import random_noise
from parapet.attacks.rapid import rapid
from parapet.attacks.rays import rays
from parapet.attacks.square import square
from parapet.errors import InputError
from parapet.quoting import quote

# Croce and Hein 2020, section 5: iterations, target classes and queries of the ensemble.
_STEPS, _TARGETS, _QUERIES = 100, 9, 5000
# In about the time of PGD with 20 steps on both losses these leave no more, and up to 48 points fewer
# (benchmarks/README.md).
_RAPID_STEPS, _RAPID_QUERIES = 8, 25
# The nearest boundary is hardly ever that of a class further down, and each class costs a backward pass.
_DEEPFOOL_CLASSES = 5
AUTO_ATTACKS = ("standard", "plus", "rand", "rapid")
SUITES = ("search", "full", *AUTO_ATTACKS)


@dataclass(frozen=True)
class Attack:
    """A named attack of a suite; `minimum_norm` attacks count as successful where their distance is within eps.

    With `takes_eps` a minimum-norm attack is told the radius, so that it leaves images alone that it broke within it.
    With `survivors_only` it meets the images that every attack before it left standing, as in AutoAttack, and what is
    told of it is the share that it and all before it left; the first of a suite meets every image in any case.
    """

    name: str
    function: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    minimum_norm: bool = False
    takes_eps: bool = False
    survivors_only: bool = False


def search_suite(*, steps: int = _RAPID_STEPS, queries: int = _RAPID_QUERIES) -> list[Attack]:
    """What every candidate of a search meets: FGSM, and the rapid AutoAttack with a small budget."""
    return [Attack("fgsm", fgsm), Attack("rapid", rapid, {"steps": steps, "queries": queries})]


def pgd_suite(*, pgd_steps: int, pgd_restarts: int) -> list[Attack]:
    """FGSM, and PGD on cross-entropy and on the margin.

    The margin attack is there because label smoothing and other changes of the logits' scale fake robustness
    under cross-entropy alone.
    """
    return [Attack("fgsm", fgsm),
            Attack("pgd_ce", pgd, {"steps": pgd_steps, "restarts": pgd_restarts, "loss": "ce"}),
            Attack("pgd_margin", pgd, {"steps": pgd_steps, "restarts": pgd_restarts, "loss": "margin"})]


def full_suite(*, pgd_steps: int, pgd_restarts: int, deepfool_steps: int, apgd_steps: int = _STEPS,
               targets: int = _TARGETS, fab_steps: int = _STEPS, square_queries: int = _QUERIES) -> list[Attack]:
    """What the front meets on the test split: FGSM, PGD on two losses, DeepFool, then AutoAttack's four on what still
    stands. Those with a budget of 0 are left out."""
    ensemble = [Attack("apgd_ce", apgd, {"steps": apgd_steps, "loss": "ce"}),
                Attack("apgd_t", apgd, {"steps": apgd_steps, "targets": targets}),
                Attack("fab_t", fab, {"steps": fab_steps, "targets": targets}, minimum_norm=True, takes_eps=True),
                Attack("square", square, {"queries": square_queries})]
    return [*pgd_suite(pgd_steps=pgd_steps, pgd_restarts=pgd_restarts),
            Attack("deepfool", deepfool, {"steps": deepfool_steps, "classes": _DEEPFOOL_CLASSES}, minimum_norm=True),
            *(replace(attack, survivors_only=True) for attack in ensemble
              if attack.options["steps" if "steps" in attack.options else "queries"] > 0)]


def auto_attack_suite(version: str = "standard") -> list[Attack]:
    """The attacks of AutoAttack in their order; `version` is "standard", "plus", "rand" or "rapid".

    "rand" is for models whose randomness is averaged by `Eot`, which gives it the 20 draws of the published version.
    "rapid" is ours: A3 and then Square from where it ended, which find what "standard" finds in a fraction of its time.
    """
    apgd_ce = Attack("apgd_ce", apgd, {"steps": _STEPS, "loss": "ce"})
    apgd_dlr = Attack("apgd_dlr", apgd, {"steps": _STEPS, "loss": "dlr"})
    apgd_t = Attack("apgd_t", apgd, {"steps": _STEPS, "targets": _TARGETS})
    fab_t = Attack("fab_t", fab, {"steps": _STEPS, "targets": _TARGETS}, minimum_norm=True, takes_eps=True)
    square_5000 = Attack("square", square, {"queries": _QUERIES})
    if version == "standard":
        return [apgd_ce, apgd_t, fab_t, square_5000]
    if version == "plus":
        restarted = {"restarts": 5}
        return [Attack("apgd_ce", apgd, {**apgd_ce.options, **restarted}),
                Attack("apgd_dlr", apgd, {**apgd_dlr.options, **restarted}),
                Attack("fab", fab, {"steps": _STEPS, "targets": None, **restarted}, minimum_norm=True, takes_eps=True),
                square_5000, apgd_t, fab_t]
    if version == "rand":
        return [apgd_ce, apgd_dlr]
    if version == "rapid":
        return [Attack("rapid", rapid)]
    raise InputError(f"version is {quote(version)}; allowed: {', '.join(AUTO_ATTACKS)}.")


def catalogue(norm: str) -> dict[str, Attack]:
    """Every attack that can be asked for by name under `norm`, with customary budgets."""
    every = [*pgd_suite(pgd_steps=40, pgd_restarts=1), Attack("pgd_100", pgd, {"steps": 100, "loss": "ce"}),
             Attack("pgd_margin_10", pgd, {"steps": 100, "restarts": 10, "loss": "margin"}), Attack("mi_fgsm", mi_fgsm),
             *auto_attack_suite("standard"), *auto_attack_suite("rand")[1:],
             *auto_attack_suite("rapid"),
             Attack("deepfool", deepfool, {"steps": 50, "classes": 10}, minimum_norm=True),
             Attack("hop_skip_jump", hop_skip_jump, {"queries": _QUERIES}, minimum_norm=True),
             Attack("uniform_noise", random_noise, {"kind": "uniform", "draws": 1000}),
             Attack("corner_noise", random_noise, {"kind": "corner", "draws": 1000})]
    every.append(Attack("carlini_wagner", carlini_wagner, minimum_norm=True) if norm == "l2" else
                 Attack("rays", rays, {"queries": _QUERIES}, minimum_norm=True, takes_eps=True))
    return {attack.name: attack for attack in every}


def named_suite(name: str) -> list[Attack]:
    """"search", "full", or one of AutoAttack's `AUTO_ATTACKS`, whose attacks meet what still stands."""
    if name == "search":
        return search_suite()
    if name == "full":
        return full_suite(pgd_steps=50, pgd_restarts=2, deepfool_steps=30)
    if name in AUTO_ATTACKS:
        return [replace(attack, survivors_only=True) for attack in auto_attack_suite(name)]
    raise InputError(f"the suite is {quote(name)}; allowed: {', '.join(SUITES)}.")
