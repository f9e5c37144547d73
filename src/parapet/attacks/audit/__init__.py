"""The audit: detects gradient masking, weak attacks, and models that behave differently while they are examined.

Checks after Carlini et al. 2019, "On Evaluating Adversarial Robustness", Athalye, Carlini, Wagner 2018, "Obfuscated
Gradients Give a False Sense of Security", and the flags of AutoAttack. The audit takes any callable; of a module it
also sees layers, parameters and what they declare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from parapet.attacks.audit import (
    budget,
    copies,
    deployed,
    form,
    imitation,
    order,
    otherwise,
    outside,
    power,
    sleepers,
    slopes,
)
from parapet.attacks.audit.scene import CHEAP, FULL, AuditBudget, Scene, audited_rows
from parapet.attacks.audit.verdicts import Result, result, worst
from parapet.attacks.inputs import Model, check, frozen
from parapet.attacks.noise import Generator
from parapet.errors import InputError

CHECKS: dict[str, Callable[[Scene], Result]] = {
    "well_formed": form.well_formed, "gradients": slopes.gradients, "scale": slopes.scale, "uphill": slopes.uphill,
    "alignment": slopes.alignment, "margin": order.margin, "order": order.order, "steps": budget.steps,
    "restarts": budget.restarts, "radius": budget.radius, "noise": outside.noise, "black_box": outside.black_box,
    "transfer": outside.transfer, "memory": form.memory, "deployed": deployed.deployed, "power": power.power,
    "labels_alone": imitation.labels_alone, "sleepers": sleepers.sleepers, "variations": otherwise.variations,
    "copy": copies.copy,
}
# Asked only with `deep`: they cost most, and networks that Parapet trained have no code of somebody else's in them.
DEEP_CHECKS = ("power", "labels_alone", "sleepers", "variations", "copy")
# What every candidate of a search can afford.
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
    """Run the checks called `checks`, by default all of `CHECKS`, without "transfer" if there are no `surrogates` and,
    unless `deep`, without `DEEP_CHECKS`.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. `surrogates`
    are other models for the same images, for the transfer check; `loader` can be pickled, and loads the model again
    in another process, for the check of a copy; `progress` is told the name of each check as it begins, and which share
    of them is done. Returns (report, images (N, C, H, W)). The report is
    {verdict, checks, survived, seconds}: checks is a list of {id, verdict, numbers, advice}, each verdict "pass",
    "warn" or "fail", the whole's the worst of them; survived has a "1" for each image that is classified rightly and
    that nothing in the audit broke inside the ball, else "0". Of each image that something broke the first version
    that did is returned, else the image itself.
    """
    check(images, labels, eps=eps, norm=norm)
    if unknown := [name for name in checks or () if name not in CHECKS]:
        raise InputError(f"checks names {', '.join(unknown)}; allowed: {', '.join(CHECKS)}.")
    started = time.perf_counter()
    with frozen(model):
        scene = Scene(model, images, labels, norm, eps, generator, tuple(surrogates), limits, loader)
        asked = checks if checks is not None else [
            name for name in CHECKS if (name != "transfer" or surrogates) and (deep or name not in DEEP_CHECKS)]
        names = [name for name in CHECKS if name in asked]
        if len(scene.labels) == 0:
            advice = "The model gets no image right, so there is no robustness to audit; train it longer."
            results = [result("clean_accuracy", "fail", {"clean_accuracy": 0.0}, advice)]
        else:
            # Last, so that it sees whether the model has changed under the questions of the others.
            last = [name for name in names if name == "well_formed"]
            found = {}
            for place, name in enumerate([name for name in names if name not in last] + last):
                progress(name, place / len(names))
                found[name] = CHECKS[name](scene)
            results = [found[name] for name in names]
    report = {"verdict": worst(results), "checks": results, "survived": scene.survivors(),
              "seconds": time.perf_counter() - started}
    return report, scene.adversarial(images)


__all__ = ["CHEAP", "CHEAP_CHECKS", "CHECKS", "DEEP_CHECKS", "FULL", "AuditBudget", "audit", "audited_rows",
           "run_audit"]
