"""The attacks that can be asked for by name, with customary budgets.

The functions are in `parapet.attacks`, each with the paper that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from parapet.catalogue.spec import Catalogue
from parapet.errors import InputError

NORMS = ("linf", "l2")
# Croce and Hein 2020, section 5: iterations, target classes and queries of the ensemble.
STEPS, TARGETS, QUERIES = 100, 9, 5000


@dataclass(frozen=True, eq=False)
class AttackSpec:
    """An attack with its customary budget.

    function: "module:function" of (model, images, labels, *, norm, generator, **options), which also takes eps unless
    it is a minimum-norm attack; see `parapet.attacks`. options: its budget. norms: those it supports.
    minimum_norm: it gives (images, distances) and succeeds where the distance is at most eps. takes_eps: a minimum-norm
    attack that takes eps nevertheless, to stop at images that it broke within that radius.
    """

    name: str
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    norms: tuple[str, ...] = NORMS
    minimum_norm: bool = False
    takes_eps: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))


_GRADIENT, _NEAREST, _BLACK_BOX = (f"parapet.attacks.{name}" for name in ("gradient", "minimum_norm", "black_box"))
ATTACKS: Catalogue[AttackSpec] = Catalogue("an attack", (
    AttackSpec("fgsm", f"{_GRADIENT}.fgsm:fgsm"),
    AttackSpec("pgd_ce", f"{_GRADIENT}.pgd:pgd", {"steps": 40, "restarts": 1, "loss": "ce"}),
    AttackSpec("pgd_margin", f"{_GRADIENT}.pgd:pgd", {"steps": 40, "restarts": 1, "loss": "margin"}),
    AttackSpec("pgd_100", f"{_GRADIENT}.pgd:pgd", {"steps": 100, "loss": "ce"}),
    AttackSpec("pgd_margin_10", f"{_GRADIENT}.pgd:pgd", {"steps": 100, "restarts": 10, "loss": "margin"}),
    AttackSpec("mi_fgsm", f"{_GRADIENT}.mi_fgsm:mi_fgsm"),
    AttackSpec("apgd_ce", f"{_GRADIENT}.apgd:apgd", {"steps": STEPS, "loss": "ce"}),
    AttackSpec("apgd_t", f"{_GRADIENT}.apgd:apgd", {"steps": STEPS, "targets": TARGETS}),
    AttackSpec("fab_t", f"{_NEAREST}.fab:fab", {"steps": STEPS, "targets": TARGETS}, minimum_norm=True,
               takes_eps=True),
    AttackSpec("square", f"{_BLACK_BOX}.square:square", {"queries": QUERIES}),
    AttackSpec("apgd_dlr", f"{_GRADIENT}.apgd:apgd", {"steps": STEPS, "loss": "dlr"}),
    AttackSpec("rapid", "parapet.attacks.rapid:rapid"),
    AttackSpec("deepfool", f"{_NEAREST}.deepfool:deepfool", {"steps": 50, "classes": 10}, minimum_norm=True),
    AttackSpec("hop_skip_jump", f"{_BLACK_BOX}.hop_skip_jump:hop_skip_jump", {"queries": QUERIES}, minimum_norm=True),
    AttackSpec("uniform_noise", f"{_BLACK_BOX}.random_noise:random_noise", {"kind": "uniform", "draws": 1000}),
    AttackSpec("corner_noise", f"{_BLACK_BOX}.random_noise:random_noise", {"kind": "corner", "draws": 1000}),
    AttackSpec("carlini_wagner", f"{_NEAREST}.carlini_wagner:carlini_wagner", norms=("l2",), minimum_norm=True),
    AttackSpec("rays", f"{_BLACK_BOX}.rays:rays", {"queries": QUERIES}, norms=("linf",), minimum_norm=True,
               takes_eps=True),
))

# The attacks of the suites of the search, by `attack_evaluation.suite`, and of the full evaluation.
SEARCH_SUITES = {"rapid": ("fgsm", "rapid"), "pgd": ("fgsm", "pgd_ce", "pgd_margin")}
FULL_SUITE = ("fgsm", "pgd_ce", "pgd_margin", "deepfool", "apgd_ce", "apgd_t", "fab_t", "square")


def check_also(also: Iterable[str], suite: Iterable[str], where: str, norm: str) -> None:
    """InputError for a name of `also` that is in `suite`, that is named twice, or that does not support `norm`."""
    there = set(suite)
    for name in also:
        if name in there:
            raise InputError(f"{where} names {name}, which is in the suite already; leave it out.")
        if norm not in ATTACKS[name].norms:
            allowed = ", ".join(known for known, spec in ATTACKS.items() if norm in spec.norms and known not in there)
            raise InputError(f"{where} names {name}, which does not attack under {norm}; allowed: {allowed}.")
        there.add(name)
