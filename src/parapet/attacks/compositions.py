"""Suites: lists of named attacks with budgets, among them the published compositions of AutoAttack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from parapet.catalogue.attacks import ATTACKS, QUERIES, STEPS, TARGETS
from parapet.catalogue.spec import resolve
from parapet.errors import InputError
from parapet.quoting import quote

# About as fast as PGD with 20 steps on both losses; the robust accuracy is never higher, and up to 48 points lower
# (benchmarks/README.md).
_RAPID_STEPS, _RAPID_QUERIES = 8, 25
# The nearest boundary is hardly ever that of a class with a smaller logit, and each class costs a backward pass.
_DEEPFOOL_CLASSES = 5
AUTO_ATTACKS = ("standard", "plus", "rand", "rapid")
SUITES = ("search", "full", *AUTO_ATTACKS)


@dataclass(frozen=True)
class Attack:
    """An attack of a suite: its name in results, its function and the function's options.

    minimum_norm: the function takes no eps and returns (images, distances); it succeeds where the distance is at most
    eps. takes_eps: a minimum-norm attack that gets eps all the same, so that it stops at images that it broke within
    it. survivors_only: it runs only on the images that survived all attacks before it, as in AutoAttack, and its
    accuracy is that under it and all before it; the first attack of a suite runs on every image in any case.
    """

    name: str
    function: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    minimum_norm: bool = False
    takes_eps: bool = False
    survivors_only: bool = False


def named(name: str, **options: Any) -> Attack:
    """The attack `name` of the catalogue, with `options` in place of its usual budget if given."""
    spec = ATTACKS[name]
    return Attack(name, resolve(spec.function), options or dict(spec.options), spec.minimum_norm, spec.takes_eps)


def catalogue(norm: str) -> dict[str, Attack]:
    """{name: attack with its usual budget} of all attacks that support `norm`."""
    return {name: named(name) for name, spec in ATTACKS.items() if norm in spec.norms}


def search_suite(*, steps: int = _RAPID_STEPS, queries: int = _RAPID_QUERIES) -> list[Attack]:
    """The suite of every candidate of a search: FGSM, and the rapid AutoAttack with a small budget."""
    return [named("fgsm"), named("rapid", steps=steps, queries=queries)]


def pgd_suite(*, pgd_steps: int, pgd_restarts: int) -> list[Attack]:
    """FGSM, and PGD on cross-entropy and on the margin.

    The margin is attacked because label smoothing and other changes of the logits' scale make a model look robust
    under cross-entropy alone.
    """
    return [named("fgsm"), named("pgd_ce", steps=pgd_steps, restarts=pgd_restarts, loss="ce"),
            named("pgd_margin", steps=pgd_steps, restarts=pgd_restarts, loss="margin")]


def full_suite(*, pgd_steps: int, pgd_restarts: int, deepfool_steps: int, apgd_steps: int = STEPS,
               targets: int = TARGETS, fab_steps: int = STEPS, square_queries: int = QUERIES) -> list[Attack]:
    """The suite of the front on the test split: FGSM, PGD on two losses, DeepFool, and on their survivors AutoAttack's
    four attacks, of which those with a budget of 0 are left out."""
    ensemble = [named("apgd_ce", steps=apgd_steps, loss="ce"), named("apgd_t", steps=apgd_steps, targets=targets),
                named("fab_t", steps=fab_steps, targets=targets), named("square", queries=square_queries)]
    return [*pgd_suite(pgd_steps=pgd_steps, pgd_restarts=pgd_restarts),
            named("deepfool", steps=deepfool_steps, classes=_DEEPFOOL_CLASSES),
            *(replace(attack, survivors_only=True) for attack in ensemble
              if attack.options["steps" if "steps" in attack.options else "queries"] > 0)]


def auto_attack_suite(version: str = "standard") -> list[Attack]:
    """The attacks of AutoAttack in their order; `version` is "standard", "plus", "rand" or "rapid".

    "rand" is for models whose randomness is averaged by `Eot`, which gives it the 20 draws of the published version.
    "rapid" is ours: A3, then Square from its end points, as strong as "standard" in a fraction of its time.
    """
    if version == "standard":
        return [named("apgd_ce"), named("apgd_t"), named("fab_t"), named("square")]
    if version == "plus":
        untargeted = {"steps": STEPS, "targets": None, "restarts": 5}
        return [named("apgd_ce", **ATTACKS["apgd_ce"].options, restarts=5),
                named("apgd_dlr", **ATTACKS["apgd_dlr"].options, restarts=5),
                replace(named("fab_t", **untargeted), name="fab"), named("square"), named("apgd_t"), named("fab_t")]
    if version == "rand":
        return [named("apgd_ce"), named("apgd_dlr")]
    if version == "rapid":
        return [named("rapid")]
    raise InputError(f"version is {quote(version)}; allowed: {', '.join(AUTO_ATTACKS)}.")


def named_suite(name: str) -> list[Attack]:
    """The suite "search", "full", or one of `AUTO_ATTACKS`, whose attacks run on the survivors of those before them."""
    if name == "search":
        return search_suite()
    if name == "full":
        return full_suite(pgd_steps=50, pgd_restarts=2, deepfool_steps=30)
    if name in AUTO_ATTACKS:
        return [replace(attack, survivors_only=True) for attack in auto_attack_suite(name)]
    raise InputError(f"the suite is {quote(name)}; allowed: {', '.join(SUITES)}.")
