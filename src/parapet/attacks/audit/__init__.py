"""The audit: detects gradient masking, weak attacks, and models that behave differently while they are evaluated.

The checks follow Carlini et al. 2019, "On Evaluating Adversarial Robustness", Athalye, Carlini, Wagner 2018,
"Obfuscated Gradients Give a False Sense of Security", and the flags of AutoAttack. The audit takes any callable; if it
is a module, the audit also inspects its layers, parameters and declarations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from parapet.attacks.audit import (
    binarization,
    deployed_input,
    fresh_copies,
    gradient_checks,
    gradient_free_checks,
    inactive_units,
    output_checks,
    strength_checks,
    surrogate,
    variation_check,
)
from parapet.attacks.audit.context import CHEAP, FULL, AuditBudget, AuditContext, audited_rows
from parapet.attacks.audit.verdicts import Result, result, worst
from parapet.attacks.inputs import Model, check, frozen
from parapet.attacks.noise import Generator
from parapet.errors import InputError

# The ids in results; the order is that of the report.
CHECKS: dict[str, Callable[[AuditContext], Result]] = {
    "well_formed": output_checks.well_formed, "gradients": gradient_checks.gradients, "scale": gradient_checks.scale,
    "uphill": gradient_checks.uphill, "alignment": gradient_checks.alignment, "margin": strength_checks.margin,
    "order": strength_checks.order, "steps": strength_checks.steps, "restarts": strength_checks.restarts,
    "radius": strength_checks.radius, "noise": gradient_free_checks.noise, "black_box": gradient_free_checks.black_box,
    "transfer": gradient_free_checks.transfer, "memory": output_checks.memory, "deployed": deployed_input.deployed,
    "power": binarization.binarization, "labels_alone": surrogate.labels_alone,
    "sleepers": inactive_units.inactive_units, "variations": variation_check.variations,
    "copy": fresh_copies.fresh_copy,
}
# Run only with `deep`: they cost most, and networks that Parapet trained contain nobody else's code.
DEEP_CHECKS = ("power", "labels_alone", "sleepers", "variations", "copy")
# The checks of every candidate of a search.
CHEAP_CHECKS = ("well_formed", "gradients", "uphill", "alignment", "margin", "steps", "deployed")


def _silent(check: str, share: float) -> None:
    pass


def audit(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float,
          generator: Generator | None = None, checks: Sequence[str] | None = None,
          surrogates: Sequence[Model] = (), limits: AuditBudget = FULL, deep: bool = False,
          loader: Callable[[], Model] | None = None) -> dict[str, Any]:
    """The report of `run_audit`, without the images."""
    return run_audit(model, images, labels, norm=norm, eps=eps, generator=generator, checks=checks,
                     surrogates=surrogates, limits=limits, deep=deep, loader=loader)[0]


def run_audit(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float,
              generator: Generator | None = None, checks: Sequence[str] | None = None,
              surrogates: Sequence[Model] = (), limits: AuditBudget = FULL, deep: bool = False,
              loader: Callable[[], Model] | None = None,
              progress: Callable[[str, float], None] = _silent) -> tuple[dict[str, Any], Tensor]:
    """Run the `checks`, by default all of `CHECKS` except "transfer" if there are no `surrogates`, and except
    `DEEP_CHECKS` unless `deep`.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. `surrogates`
    are other models for the same images, for the transfer check. `loader` loads the model again in another process, for
    the check of fresh copies, and must be picklable. `progress` gets the name of each check as it begins and the
    fraction of checks that are done. Returns (report, images (N, C, H, W)). The report is {verdict, checks, survived,
    seconds}: checks is a list of {id, verdict, numbers, advice}; each verdict is "pass", "warn" or "fail", and the
    report's is the worst of them; survived has a "1" for each image that is classified correctly and that nothing in
    the audit broke inside the ball, else "0". In the images each broken one is replaced by the first adversarial
    version that was found. Raises InputError for invalid arguments.
    """
    check(images, labels, eps=eps, norm=norm)
    if unknown := [name for name in checks or () if name not in CHECKS]:
        raise InputError(f"checks names {', '.join(unknown)}; allowed: {', '.join(CHECKS)}.")
    started = time.perf_counter()
    with frozen(model):
        context = AuditContext(model, images, labels, norm, eps, generator, tuple(surrogates), limits, loader)
        asked = checks if checks is not None else [
            name for name in CHECKS if (name != "transfer" or surrogates) and (deep or name not in DEEP_CHECKS)]
        names = [name for name in CHECKS if name in asked]
        if len(context.labels) == 0:
            results = [result("clean_accuracy", "fail", {"clean_accuracy": 0.0}, "The model classifies no image "
                              "correctly, so there is no robustness to audit; train it longer.")]
        else:
            found = {}
            # "well_formed" runs last, so that it sees whether the queries of the other checks have changed the model.
            for place, name in enumerate(sorted(names, key=lambda name: name == "well_formed")):
                progress(name, place / len(names))
                found[name] = CHECKS[name](context)
            results = [found[name] for name in names]
    report = {"verdict": worst(results), "checks": results, "survived": context.survival_string(),
              "seconds": time.perf_counter() - started}
    return report, context.adversarial(images)


__all__ = ["CHEAP", "CHEAP_CHECKS", "CHECKS", "DEEP_CHECKS", "FULL", "AuditBudget", "audit", "audited_rows",
           "run_audit"]
