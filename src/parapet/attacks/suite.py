"""A suite of attacks on one set of images: accuracy under each alone, or what it and all before it left, and the
per-image minimum of all."""

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
from parapet.attacks.evaluation_state import Part, identity, open_state
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
# Images whose gradients tell one model from another.
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
    """Attack every image that is classified rightly with every attack of the suite.

    images: float (N, C, H, W) in [0, 1], N >= 1; labels: (N,). Returns (record, adversarial images (N, C, H, W)): the
    record as `evaluation` in the JSON Schema, with accuracies as fractions of 1 and one 0/1 per image under each
    attack. An attack that met every image that was right has its accuracy as `alone`, one that met survivors only has
    what it and all before it left as `left`, and the other of the two is None. Of each image the first adversarial
    version that fools the model, else the image itself. Layers that declare how they have to be attacked are, and one
    more attack goes through the soft staircase of those that round. An image's noise depends on its seed and the
    attack's name alone. In the folder `state` each attack on each batch is kept as it is done, and not done again.
    `progress` is told the attack's name and the share of the suite that is done; `turn` is entered for each batch, so
    that latency can be timed in between. A batch that does not fit into memory is halved.
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
        known = identity(model, images, labels, norm, eps, seeds, batch_size, suite)
        with closing(open_state(state, known, lambda: _behaviour(attacked, images, labels, logits))) as kept:
            for place, attack in enumerate(suite):
                todo = batches(found.robust if attack.survivors_only else found.right, batch_size)
                parts = []
                for number, batch in enumerate(todo):
                    if progress:
                        progress(attack.name, (place + number / len(todo)) / len(suite))
                    if (part := kept.load(attack.name, number, batch)) is None:
                        for one in (attacked, through):
                            restart_draws(one, zlib.crc32(f"{attack.name} {number}".encode()))
                        with turn():
                            part = _part(attack, counted, images, labels, batch, eps, norm,
                                         derived(seeds, zlib.crc32(attack.name.encode())), counter)
                        kept.save(attack.name, number, part)
                    parts.append(part)
                found.take(attack, parts)
        # Asked first and last: one that has changed meanwhile was not one model.
        check_contract(observe(attacked, images, logits, batch_size), random=is_random(attacked))
    n = len(images)
    record = {"schema_version": SCHEMA_VERSION, "threat": {"norm": norm, "eps": eps}, "n": n,
              **_share("clean_accuracy", found.right, "clean_interval"),
              **_share("robust_accuracy", found.robust, "robust_interval"), "attacks": found.attacks,
              "outcomes": {name: "".join(map(str, row.int().tolist())) for name, row in found.outcomes.items()},
              "seconds": sum(attack["seconds"] for attack in found.attacks.values())}
    return record, found.adversarial


def with_audit(record: dict[str, Any], adversarial: Tensor, report: dict[str, Any],
               points: Tensor, rows: Tensor) -> tuple[dict[str, Any], Tensor]:
    """(record, adversarial images) of `run_suite`, lowered by what an audit of the images `rows` broke beyond it.

    report, points (n, C, H, W): of `run_audit` on those images; rows: int64 (n,), their positions. The audit counts as
    one more attack, "audit", that met what the suite had left standing.
    """
    survived = standing(record, adversarial.device)
    met = torch.zeros_like(survived)
    met[rows] = True
    survived[rows] &= torch.tensor([mark == "1" for mark in report["survived"]], device=survived.device)
    every = adversarial.clone()
    every[rows] = points
    return lowered(record, adversarial, "audit", survived, every, met, report["seconds"])


def lowered(record: dict[str, Any], adversarial: Tensor, name: str, survived: Tensor, points: Tensor, met: Tensor,
            seconds: float) -> tuple[dict[str, Any], Tensor]:
    """(record, adversarial images) with one more attack, `name`, that met what stood of the images `met` (N,), took
    `seconds`, and of which `survived` (N,) says what it left; of what it broke, `points` (N, C, H, W) are kept."""
    before = standing(record, adversarial.device)
    after = before & survived
    fresh = before & ~survived
    adversarial = adversarial.clone()
    adversarial[fresh] = points[fresh]
    attack = {"alone": None, **_share("left", after), "attacked": int((before & met).sum()), "seconds": seconds,
              "gradient_evaluations": None, "queries": None, "median_distance": None}
    return {**record, **_share("robust_accuracy", after, "robust_interval"),
            "attacks": {**record["attacks"], name: attack},
            "outcomes": {**record["outcomes"], name: "".join(map(str, after.int().tolist()))},
            "seconds": record["seconds"] + seconds}, adversarial


def standing(record: dict[str, Any], device: torch.device) -> Tensor:
    """Which images stand under every attack of a record, bool (N,)."""
    outcomes = record["outcomes"]
    rows = [[mark == "1" for mark in row] for row in outcomes.values()]
    return torch.tensor(rows, device=device).all(0)


class _Found:
    """What the suite has found so far, for each image."""

    def __init__(self, right: Tensor, images: Tensor) -> None:
        self.right, self.robust, self.adversarial = right, right.clone(), images.clone()
        self.outcomes = {"clean": right}
        self.attacks: dict[str, dict[str, Any]] = {}

    def take(self, attack: Attack, parts: list[Part]) -> None:
        """Take over what an attack did in all its batches."""
        # The first attack meets every image that is right, in any suite.
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
    struck = run_attack(attack, model, images[batch], labels[batch], eps, norm, seeds[batch])
    if not counter.finite:
        raise InputError(f"the model returned NaN or infinite logits under the attack {attack.name}; a robustness "
                         "number for it would be wrong.")
    return Part(batch, struck.points, struck.fooled, struck.distances, counter.queries, counter.with_gradient,
                time.perf_counter() - started)


def _behaviour(model: Model, images: Tensor, labels: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """What tells one model from another: logits (N, classes) and, of the first images, gradients of the margin."""
    if is_random(model):
        return {}
    part = slice(_COMPARED)
    return {"answers": logits, "gradients": input_gradient(model, images[part], labels[part], margin)[2].nan_to_num()}


def _adaptive(suite: Sequence[Attack], through: Model | None, counter: QueryCounter) -> list[Attack]:
    """The suite, and PGD `through` the soft staircase of the layers that round, if there is one."""
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
