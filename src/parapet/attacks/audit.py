"""The audit: does a model stand, or does it only hide its gradients?

The checks of Carlini et al. 2019, "On Evaluating Adversarial Robustness", and Athalye, Carlini, Wagner 2018,
"Obfuscated Gradients Give a False Sense of Security", as far as they need white-box attacks and noise alone.
The audit sees a callable and nothing else. A check fails on vanishing gradients, undeclared randomness or
probabilities, and on a gap above 5 points that a paired test calls real (p < 0.01); it warns on a smaller gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from parapet.attacks.balls import ball
from parapet.attacks.fgsm import fgsm
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, check, check_logits, frozen, predict
from parapet.attacks.intervals import sign_test
from parapet.attacks.noise import image_seeds, uniform
from parapet.attacks.objectives import cross_entropy, margin
from parapet.attacks.pgd import pgd

FAIL_GAP, WARN_GAP, SIGNIFICANCE = 0.05, 0.02, 0.01
# Three checks ask whether the attack's budget or loss was too weak. Honest small nets on the digits lose 3 to 9 points
# there, label-smoothed and masked ones tens. The suite counts the lowest number either way, so the veto is for gaps
# that no honest net shows, and a smaller one warns.
BUDGET_FAIL_GAP = 0.15
STEPS = 20
TINY_GRADIENT = 1e-12
VANISHED_SHARE_FAILS, VANISHED_SHARE_WARNS = 0.5, 0.1


class _Scene:
    """The images that the model gets right, and the outcome of PGD on them, computed once for all checks."""

    def __init__(self, model: Model, images: Tensor, labels: Tensor, norm: str, eps: float,
                 generator: torch.Generator | None) -> None:
        right = predict(model, images) == labels
        self.model, self.norm, self.eps, self.generator = model, norm, eps, generator
        self.images, self.labels = images[right], labels[right]
        self.clean_accuracy = float(right.float().mean())
        self.pgd_ce = self.survives(pgd, steps=STEPS, loss="ce")
        self.pgd_margin = self.survives(pgd, steps=STEPS, loss="margin")
        self.pgd = self.pgd_ce & self.pgd_margin

    def survives(self, attack: Callable[..., Tensor], model: Model | None = None, **options: Any) -> Tensor:
        """Which of the images the model still gets right after `attack`, bool (n,)."""
        options = {"eps": self.eps, **options}
        points = attack(model or self.model, self.images, self.labels, norm=self.norm, early_stop=True,
                        generator=self.generator, **options)
        return predict(self.model, points) == self.labels


Check = Callable[[_Scene], dict[str, Any]]


def audit(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float,
          generator: torch.Generator | None = None, checks: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the checks called `checks`, by default all of `CHECKS`.

    images: float (N, C, H, W) in [0, 1]; labels: (N,). Returns {verdict, checks: [{id, verdict, numbers, advice}]},
    each verdict "pass", "warn" or "fail"; the whole's is the worst of them.
    """
    check(images, labels, eps=eps, norm=norm)
    with frozen(model):
        with torch.no_grad():
            check_logits(model(images), labels)
        scene = _Scene(model, images, labels, norm, eps, generator)
        names = list(CHECKS) if checks is None else list(checks)
        if len(scene.labels) == 0:
            advice = "The model gets no image right, so there is no robustness to audit; train it longer."
            results = [_result("clean_accuracy", "fail", {"clean_accuracy": 0.0}, advice)]
        else:
            results = [CHECKS[name](scene) for name in names]
    order = ("pass", "warn", "fail")
    verdict = max((result["verdict"] for result in results), key=order.index, default="pass")
    return {"verdict": verdict, "checks": results}


def _well_formed(scene: _Scene) -> dict[str, Any]:
    """Check 1: deterministic, logits and not probabilities."""
    with torch.no_grad():
        first, second = scene.model(scene.images), scene.model(scene.images)
    drift = float((first - second).abs().max())
    sums = first.sum(1)
    probabilities = bool((first >= 0).all() and (sums - 1).abs().max() < 1e-3)
    numbers = {"largest_difference_of_two_passes": drift, "rows_sum_to_one": probabilities}
    if probabilities:
        return _result("well_formed", "fail", numbers, "The model returns probabilities; return logits, or "
                       "cross-entropy attacks meet saturated gradients.")
    if drift > 1e-3:
        return _result("well_formed", "fail", numbers, "Two passes over the same images differ; declare the "
                       "randomness and attack its expectation (EOT).")
    return _result("well_formed", "pass", numbers, "Deterministic logits.")


def _gradients(scene: _Scene) -> dict[str, Any]:
    """Check 2: the share of images whose input gradient is zero or tiny, for cross-entropy and for the margin."""
    shares = {}
    for name, objective in (("ce", cross_entropy), ("margin", margin)):
        _, _, gradient = input_gradient(scene.model, scene.images, scene.labels, objective)
        shares[f"vanished_{name}"] = float((gradient.flatten(1).abs().amax(1) < TINY_GRADIENT).float().mean())
    if shares["vanished_margin"] > VANISHED_SHARE_FAILS:
        return _result("gradients", "fail", shares, "Most images have no input gradient, even of the margin; the "
                       "model hides it, so attack it through a differentiable stand-in (BPDA) or without gradients.")
    if max(shares.values()) > VANISHED_SHARE_WARNS:
        return _result("gradients", "warn", shares, "Some images have no cross-entropy gradient; trust the margin "
                       "attacks and store the lower number.")
    return _result("gradients", "pass", shares, "Input gradients are there.")


def _scale(scene: _Scene) -> dict[str, Any]:
    """Check 2, second half: cross-entropy attacks on logits scaled by 0.1 and by 10 must not do better."""
    survived = scene.pgd.clone()
    numbers = {"accuracy_unscaled": _mean(scene.pgd)}
    for factor in (0.1, 10.0):
        def scaled(images: Tensor, factor: float = factor) -> Tensor:
            return scene.model(images) * factor
        outcome = scene.survives(pgd, model=scaled, steps=STEPS, loss="ce")
        numbers[f"accuracy_times_{factor:g}"] = _mean(outcome)
        survived &= outcome
    return _gap("scale", scene.pgd, survived, numbers, "The scale of the logits shields the model from "
                "cross-entropy attacks; attack the margin, or rescale the logits.")


def _single_step(scene: _Scene) -> dict[str, Any]:
    """Checks 6 and 10: one step must not beat many; if FGSM is the stronger attack, gradients lie."""
    outcome = scene.survives(fgsm)
    numbers = {"fgsm": _mean(outcome), "pgd": _mean(scene.pgd), "fgsm_pgd_gap": _mean(outcome) - _mean(scene.pgd)}
    return _gap("single_step", scene.pgd, scene.pgd & outcome, numbers, "FGSM breaks images that PGD does not; the "
                "loss surface misleads iterative attacks, so raise their steps and restarts.")


def _margin(scene: _Scene) -> dict[str, Any]:
    """Check 11: PGD on cross-entropy against PGD on the margin."""
    numbers = {"pgd_ce": _mean(scene.pgd_ce), "pgd_margin": _mean(scene.pgd_margin)}
    return _gap("margin", scene.pgd_ce, scene.pgd_ce & scene.pgd_margin, numbers, "The margin attack is much "
                "stronger than cross-entropy, a mark of label smoothing or of saturated logits; believe the margin.",
                BUDGET_FAIL_GAP)


def _steps(scene: _Scene) -> dict[str, Any]:
    """Check 3: accuracy against steps falls and has settled at the end."""
    budgets = (1, 2, 5, 10, 20, 50)
    outcomes = [scene.survives(pgd, steps=steps, loss="margin", step_size=max(scene.eps / 10, 2.5 * scene.eps / steps))
                for steps in budgets]
    accuracies = [_mean(outcome) for outcome in outcomes]
    numbers = {"steps": list(budgets), "accuracy": accuracies}
    return _gap("steps", outcomes[-2], outcomes[-2] & outcomes[-1], numbers, "More steps still break more images; "
                "raise the number of steps until the accuracy settles.", BUDGET_FAIL_GAP)


def _restarts(scene: _Scene) -> dict[str, Any]:
    """Check 4: one restart against four."""
    outcome = scene.survives(pgd, steps=STEPS, loss="margin", restarts=4)
    numbers = {"one_restart": _mean(scene.pgd), "four_restarts": _mean(scene.pgd & outcome)}
    return _gap("restarts", scene.pgd, scene.pgd & outcome, numbers, "Restarts break more images; raise their "
                "number until the accuracy settles.", BUDGET_FAIL_GAP)


def _radius(scene: _Scene) -> dict[str, Any]:
    """Check 5: accuracy falls with the radius and ends near nothing where every image can become all grey."""
    largest = 0.5 if scene.norm == "linf" else 0.5 * float(scene.images[0].numel()) ** 0.5
    radii = sorted({min(factor * scene.eps, largest) for factor in (0.5, 1.0, 2.0, 4.0)} | {largest})
    outcomes = [scene.survives(pgd, eps=radius, steps=STEPS, loss="margin") for radius in radii]
    accuracies = [_mean(outcome) for outcome in outcomes]
    numbers = {"eps": [0.0, *radii], "accuracy": [1.0, *accuracies]}
    rises = max((later - earlier for earlier, later in zip(accuracies, accuracies[1:])), default=0.0)
    if accuracies[-1] > 0.2 or rises > FAIL_GAP:
        return _result("radius", "fail", numbers, "The accuracy does not fall to nothing as the radius grows, so the "
                       "attack is not finding what is there; look for hidden gradients.")
    if accuracies[-1] > 0.05 or rises > WARN_GAP:
        return _result("radius", "warn", numbers, "The accuracy falls late or unevenly as the radius grows; raise "
                       "steps and restarts.")
    return _result("radius", "pass", numbers, "The accuracy falls to nothing as the radius grows.")


def _noise(scene: _Scene) -> dict[str, Any]:
    """Check 9: uniform and corner noise (20 draws each) is a floor that no gradient attack may miss."""
    around = ball(scene.images, scene.eps, scene.norm)
    seeds = image_seeds(len(scene.images), scene.generator, scene.images.device)
    survived = torch.ones_like(scene.pgd)
    for draw in range(20):
        noise = uniform(seeds, scene.images.shape[1:], draw)
        for points in (around.start(noise), around.start((noise > 0.5).to(noise.dtype))):
            survived &= predict(scene.model, points) == scene.labels
    numbers = {"noise": _mean(survived), "pgd": _mean(scene.pgd)}
    return _gap("noise", scene.pgd, scene.pgd & survived, numbers, "Random noise breaks images that gradients did "
                "not; the gradients are of no use, so attack without them.")


CHECKS: dict[str, Check] = {
    "well_formed": _well_formed, "gradients": _gradients, "scale": _scale, "single_step": _single_step,
    "margin": _margin, "steps": _steps, "restarts": _restarts, "radius": _radius, "noise": _noise,
}
# What every candidate of a search can afford.
CHEAP_CHECKS = ("well_formed", "gradients", "single_step", "margin")


def _gap(name: str, before: Tensor, after: Tensor, numbers: dict[str, Any], advice: str,
         fail_gap: float = FAIL_GAP) -> dict[str, Any]:
    """Judge the images that only the second, stronger attack breaks; shares are of the images rightly classified."""
    gap = _mean(before) - _mean(after)
    p_value = sign_test(int((before & ~after).sum()), int((~before & after).sum()))
    numbers = {**numbers, "gap": gap, "p_value": p_value}
    if gap > fail_gap and p_value < SIGNIFICANCE:
        return _result(name, "fail", numbers, advice)
    if gap > WARN_GAP:
        return _result(name, "warn", numbers, advice)
    return _result(name, "pass", numbers, "The two agree.")


def _mean(outcome: Tensor) -> float:
    return float(outcome.float().mean())


def _result(name: str, verdict: str, numbers: dict[str, Any], advice: str) -> dict[str, Any]:
    return {"id": name, "verdict": verdict, "numbers": numbers, "advice": advice}
