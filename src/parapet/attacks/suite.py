"""Runs a suite of attacks on one set of images: accuracy under each attack, and robust accuracy under all of them."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parapet.attacks.adaptive import adapted, is_random, restart_draws, staircase
from parapet.attacks.auto_attack import run_attack
from parapet.attacks.batching import batches
from parapet.attacks.black_box.transfer import transfer
from parapet.attacks.compositions import Attack
from parapet.attacks.evaluation_state import EvaluationState, Part, identity
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, check, first_answers, frozen
from parapet.attacks.model_contract import check_contract, observe
from parapet.attacks.noise import Generator, derived, image_seeds
from parapet.attacks.objectives import margin
from parapet.attacks.query_counter import QueryCounter
from parapet.errors import InputError
from parapet.intervals import wilson

SCHEMA_VERSION = 3
_STAIRCASE_STEPS = 40
# Images whose gradients distinguish models.
_COMPARED = 16


def evaluate(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float, suite: Sequence[Attack],
             generator: Generator | None = None, batch_size: int = 512, state: Path | None = None) -> dict[str, Any]:
    """The record of `run_suite`, without the images."""
    return run_suite(model, images, labels, norm=norm, eps=eps, suite=suite, generator=generator,
                     batch_size=batch_size, state=state)[0]


def run_suite(model: Model, images: Tensor, labels: Tensor, *, norm: str, eps: float, suite: Sequence[Attack],
              generator: Generator | None = None, batch_size: int = 512, state: Path | None = None,
              progress: Callable[[str, float], None] | None = None,
              turn: Callable[[], AbstractContextManager[object]] = nullcontext) -> tuple[dict[str, Any], Tensor]:
    """Run every attack of the suite on every correctly classified image.

    images: float (N, C, H, W) in [0, 1], N >= 1; labels: (N,). Returns (record, adversarial images (N, C, H, W)).
    The record is `evaluation` of the JSON Schema, with accuracies as fractions of 1 and one 0/1 per image under each
    attack. For an attack that ran on all correctly classified images, `alone` is the accuracy under it; for one that
    ran on survivors only, `left` is the accuracy under it and all before it; the other of the two is None. The
    adversarial image is the first version that fools the model, else the image itself.

    Layers are attacked as they declare (`adapted`); if some of them round, one more attack uses their soft staircase.
    The random numbers of an image depend on its seed and on the attack's name only. In the folder `state` the result of
    each attack on each batch is stored, and read instead of computed again. `progress` gets the attack's name and the
    share of the suite that is done; the context `turn` is entered for each batch, so that latency can be measured in
    between. A batch that does not fit into memory is halved. Raises InputError for invalid arguments and for a model
    that does not meet its contract (model_contract.py).
    """
    check(images, labels, eps=eps, norm=norm)
    if batch_size < 1 or len(images) == 0:
        raise InputError(f"batch_size is {batch_size} and there are {len(images)} images; both must be at least 1.")
    counter, seeds = QueryCounter(), image_seeds(len(images), generator, images.device)
    attacked, through = adapted(model), staircase(model)
    suite = _adaptive(suite, through, counter)
    counted = counter.of(attacked)
    with frozen(attacked):
        logits = first_answers(attacked, images, labels, batch_size)
        check_contract(observe(attacked, images, logits, batch_size), random=is_random(attacked))
        found = _Found(logits.argmax(1) == labels, images)
        with nullcontext() if state is None else closing(EvaluationState(
                state, identity(model, images, labels, norm, eps, seeds, batch_size, suite),
                _behaviour(attacked, images, labels, logits))) as stored:
            for place, attack in enumerate(suite):
                todo = batches(found.robust if attack.survivors_only else found.right, batch_size)
                parts = []
                for number, batch in enumerate(todo):
                    if progress:
                        progress(attack.name, (place + number / len(todo)) / len(suite))
                    part = stored.load(attack.name, number, batch) if stored else None
                    if part is None:
                        for one in (attacked, through):
                            restart_draws(one, zlib.crc32(f"{attack.name} {number}".encode()))
                        with turn():
                            part = _part(attack, counted, images, labels, batch, eps, norm,
                                         derived(seeds, zlib.crc32(attack.name.encode())), counter)
                        if stored:
                            stored.save(attack.name, number, part)
                    parts.append(part)
                found.take(attack, parts)
        # Checked first and last: a model that the attacks have changed has no single robust accuracy.
        check_contract(observe(attacked, images, logits, batch_size), random=is_random(attacked))
    n = len(images)
    record = {"schema_version": SCHEMA_VERSION, "threat": {"norm": norm, "eps": eps}, "n": n,
              **_share("clean_accuracy", found.right, "clean_interval"),
              **_share("robust_accuracy", found.robust, "robust_interval"), "attacks": found.attacks,
              "outcomes": {name: _marks(row) for name, row in found.outcomes.items()},
              "seconds": sum(attack["seconds"] for attack in found.attacks.values())}
    return record, found.adversarial


def with_audit(record: dict[str, Any], adversarial: Tensor, report: dict[str, Any],
               points: Tensor, rows: Tensor) -> tuple[dict[str, Any], Tensor]:
    """(record, adversarial images) of `run_suite`, updated with the images that an audit broke beyond the suite.

    report, points (n, C, H, W): of `run_audit` on the images at the positions `rows`, int64 (n,). The audit counts as
    one more attack, "audit", on the survivors of the suite.
    """
    survived = standing(record, adversarial.device)
    met = torch.zeros_like(survived)
    met[rows] = True
    survived[rows] &= _from_marks(report["survived"], survived.device)
    every = adversarial.clone()
    every[rows] = points
    return lowered(record, adversarial, "audit", survived, every, met, report["seconds"])


def lowered(record: dict[str, Any], adversarial: Tensor, name: str, survived: Tensor, points: Tensor, met: Tensor,
            seconds: float) -> tuple[dict[str, Any], Tensor]:
    """(record, adversarial images) with one more attack, `name`, that ran on the survivors among the images `met` (N,)
    for `seconds`; `survived` (N,): which images it did not break; `points` (N, C, H, W): its adversarial images."""
    before = standing(record, adversarial.device)
    after = before & survived
    fresh = before & ~survived
    adversarial = adversarial.clone()
    adversarial[fresh] = points[fresh]
    attack = {"alone": None, **_share("left", after), "attacked": int((before & met).sum()), "seconds": seconds,
              "gradient_evaluations": None, "queries": None, "median_distance": None}
    return {**record, **_share("robust_accuracy", after, "robust_interval"),
            "attacks": {**record["attacks"], name: attack},
            "outcomes": {**record["outcomes"], name: _marks(after)},
            "seconds": record["seconds"] + seconds}, adversarial


def standing(record: dict[str, Any], device: torch.device) -> Tensor:
    """Which images survive every attack of a record, bool (N,)."""
    outcomes = record["outcomes"]
    return torch.stack([_from_marks(row, device) for row in outcomes.values()]).all(0)


def _marks(outcome: Tensor) -> str:
    """A "1" for each True of a bool tensor (N,), a "0" for each False."""
    return "".join(map(str, outcome.int().tolist()))


def _from_marks(marks: str, device: torch.device) -> Tensor:
    return torch.tensor([mark == "1" for mark in marks], device=device)


class _Found:
    """The results of the suite so far, for each image."""

    def __init__(self, right: Tensor, images: Tensor) -> None:
        self.right, self.robust, self.adversarial = right, right.clone(), images.clone()
        self.outcomes = {"clean": right}
        self.attacks: dict[str, dict[str, Any]] = {}

    def take(self, attack: Attack, parts: list[Part]) -> None:
        """Add the results of an attack in all its batches."""
        # The first attack runs on all correctly classified images in any suite.
        survivors_only = attack.survivors_only and bool(self.attacks)
        survived = (self.robust if survivors_only else self.right).clone()
        for part in parts:
            broken = part.rows[part.fooled]
            survived[broken] = False
            first = self.robust[broken]
            self.adversarial[broken[first]] = part.points[part.fooled][first]
            self.robust[broken] = False
        self.outcomes[attack.name] = survived
        self.attacks[attack.name] = {
            "alone": None, "left": None, **_share("left" if survivors_only else "alone", survived),
            "attacked": sum(len(part.rows) for part in parts), "seconds": sum(part.seconds for part in parts),
            "gradient_evaluations": sum(part.gradient_evaluations for part in parts),
            "queries": sum(part.queries for part in parts),
            "median_distance": _median(parts) if attack.minimum_norm and not survivors_only else None}


def _part(attack: Attack, model: Model, images: Tensor, labels: Tensor, batch: Tensor, eps: float, norm: str,
          seeds: Tensor, counter: QueryCounter) -> Part:
    started = time.perf_counter()
    counter.reset()
    result = run_attack(attack, model, images[batch], labels[batch], eps, norm, seeds[batch])
    if not counter.finite:
        raise InputError(f"the model returned NaN or infinite logits under the attack {attack.name}; a robustness "
                         "number for it would be wrong.")
    return Part(batch, result.points, result.fooled, result.distances, counter.queries, counter.with_gradient,
                time.perf_counter() - started)


def _behaviour(model: Model, images: Tensor, labels: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """What distinguishes models: logits (N, classes), and gradients of the margin for the first images."""
    if is_random(model):
        return {}
    part = slice(_COMPARED)
    return {"answers": logits, "gradients": input_gradient(model, images[part], labels[part], margin)[2].nan_to_num()}


def _adaptive(suite: Sequence[Attack], through: Model | None, counter: QueryCounter) -> list[Attack]:
    """The suite, and PGD on `through`, the model with soft staircases, if there is one."""
    suite = list(suite)
    if len({attack.name for attack in suite}) < len(suite):
        raise InputError(f"the suite names an attack twice: {', '.join(attack.name for attack in suite)}.")
    if through is not None:
        options = {"surrogate": counter.of(through), "attack": pgd, "steps": _STAIRCASE_STEPS, "loss": "margin"}
        suite.append(Attack("pgd_staircase", transfer, options))
    return suite


def _share(name: str, outcomes: Tensor, interval: str = "interval") -> dict[str, Any]:
    count, n = int(outcomes.sum()), len(outcomes)
    return {name: count / n, interval: list(wilson(count, n))}


def _median(parts: list[Part]) -> float | None:
    values = torch.cat([part.distances for part in parts]) if parts else torch.empty(0)
    median = float(values.median()) if len(values) else torch.inf
    return median if median < torch.inf else None
