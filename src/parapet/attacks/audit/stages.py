"""The attacks of the adaptive stage, each made after the doubts that it answers.

Tramèr, Carlini, Brendel, Mądry 2020, "On Adaptive Attacks to Adversarial Example Defenses": a defence is evaluated by
the attack that fits it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from parapet.attacks.adaptive import Bpda
from parapet.attacks.audit.copies import copy_stands
from parapet.attacks.audit.imitation import decided, from_surrogate, imitated
from parapet.attacks.audit.otherwise import stands_as
from parapet.attacks.audit.scene import Scene
from parapet.attacks.audit.sleepers import woken
from parapet.attacks.audit.verdicts import FAIL_GAP, WARN_GAP
from parapet.attacks.audit.views import IN_BATCHES, IN_STEPS, VARIATIONS, seen_as, variation_of
from parapet.attacks.balls import widest
from parapet.attacks.black_box.square import square
from parapet.attacks.black_box.transfer import transfer
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.inputs import Model, ask, frozen
from parapet.attacks.noise import derived
from parapet.attacks.rapid import rapid
from parapet.attacks.stand_ins import blocking_layers

# Gradients averaged over so many draws from a cube whose half is this share of the radius.
_DRAWS, _SHARE = 8, 0.5
# Queries of a round of Square, the most that are spent on an image, and the share of the standing images that a round
# must break for another one.
_QUERIES, _MOST_QUERIES, _PAYS = 2500, 20_000, 0.01
_DECISIONS = 2500
_STEPS = 40


@dataclass(frozen=True)
class Doubts:
    """What speaks against a number: the checks that did not pass, how the model was seen where it fell, and by how much
    the audit lowered it beyond the suite (a share of the audited images)."""

    checks: frozenset[str]
    seen: tuple[str, ...]
    beyond: float

    @classmethod
    def of(cls, report: dict[str, Any], beyond: float) -> Doubts:
        """From the report of an audit."""
        numbers = {check["id"]: check for check in report["checks"]}
        failed = frozenset(name for name, check in numbers.items() if check["verdict"] != "pass")
        return cls(failed, tuple(_seen(numbers)), beyond)


def _seen(checks: dict[str, Any]) -> Iterator[str]:
    if checks.get("variations", {"verdict": "pass"})["verdict"] != "pass":
        numbers = checks["variations"]["numbers"]
        yield from (name for name, stands in numbers.items() if (name in VARIATIONS or name.startswith(IN_BATCHES))
                    and name != "as before" and stands is not None and numbers["as_before"] - stands > FAIL_GAP)
    if checks.get("deployed", {"verdict": "pass"})["verdict"] != "pass":
        numbers = checks["deployed"]["numbers"]
        yield from (name for name in ("one at a time", "in inference mode", "as served")
                    if name.replace(" ", "_") in numbers)
        yield from (name for name, stands in numbers.items() if (name == "8-bit pixels" or name.startswith(IN_STEPS))
                    and numbers["as_before"] - stands > WARN_GAP)


class Given(NamedTuple):
    """What stands, as a scene, and what is in doubt about it."""

    scene: Scene
    doubts: Doubts


@dataclass(frozen=True)
class Stage:
    """An attack on what stands, and after which doubts it is made."""

    name: str
    attack: Callable[[Given], None]
    after: frozenset[str]

    def wanted(self, doubts: Doubts) -> bool:
        """Whether any of the doubts is one after which this attack is made."""
        if self.attack is _seen_otherwise and not doubts.seen:
            return False
        return bool(self.after & doubts.checks) or ("beyond" in self.after and doubts.beyond > WARN_GAP)


def _standing(given: Given) -> Tensor:
    return given.scene.standing.nonzero().squeeze(1)


def _rapid(given: Given) -> None:
    given.scene.survives(rapid, stream=301, among=given.scene.standing)


def _from_the_image(given: Given) -> None:
    """Where a single step breaks more than many do, a random start may have left what the step has kept."""
    for stream, steps in ((381, _STEPS), (382, 3 * _STEPS)):
        given.scene.survives(pgd, stream=stream, among=given.scene.standing, steps=steps, loss="margin",
                             random_start=False)


def _straight_through(given: Given) -> None:
    scene = given.scene
    layers = blocking_layers(scene.model, scene.images[:32])
    if not layers:
        return
    through = Bpda(scene.model, "identity", layers)
    for steps in (_STEPS, 3 * _STEPS):
        scene.survives(_pgd_of, stream=302 + steps, among=scene.standing, surrogate=through, steps=steps)
    scene.survives(rapid, stream=304, model=through, among=scene.standing)


def _woken(given: Given) -> None:
    given.scene.survives(woken, stream=351, among=given.scene.standing, classes=given.scene.logits.shape[1])


def _averaged(given: Given) -> None:
    scene = given.scene

    width = 2 * _SHARE * scene.eps / widest(scene.images, scene.norm)

    def smooth(images: Tensor) -> Tensor:
        copies = images.repeat(_DRAWS, 1, 1, 1)
        draws = torch.rand(copies.shape, generator=noise).to(copies) - 0.5
        return ask(scene.model, (copies + width * draws).clamp(0, 1)).reshape(_DRAWS, len(images), -1).mean(0)
    noise = torch.Generator().manual_seed(int(scene.seeds[0]) % 2**63)
    for steps in (_STEPS, 3 * _STEPS):
        scene.survives(_pgd_of, stream=311 + steps, among=scene.standing, surrogate=smooth, steps=steps)


def _surrogate(given: Given) -> None:
    scene = given.scene
    surrogate = imitated(scene.model, scene.images, derived(scene.seeds, 321), classes=scene.logits.shape[1],
                         eps=scene.eps, norm=scene.norm)
    scene.survives(from_surrogate, stream=322, among=scene.standing, surrogate=surrogate)
    rows = _standing(given)
    if len(rows) and {"labels_alone", "black_box"} & given.doubts.checks:
        tried = scene.images.clone()
        tried[rows] = decided(scene.model, surrogate, scene.images[rows], scene.labels[rows], scene.eps, scene.norm,
                              _DECISIONS, derived(scene.seeds[rows], 323))
        scene.judge(tried)


def _transfer(given: Given) -> None:
    scene = given.scene
    if scene.surrogates:
        scene.survives(transfer, stream=331, among=scene.standing, surrogate=list(scene.surrogates))


def _queries(given: Given) -> None:
    """Square, again and again while a round breaks a hundredth of what stands."""
    scene = given.scene
    for turn in range(_MOST_QUERIES // _QUERIES):
        before = int(scene.standing.sum())
        scene.survives(square, stream=341 + turn, among=scene.standing, queries=_QUERIES)
        if before - int(scene.standing.sum()) <= _PAYS * before:
            return


def _seen_otherwise(given: Given) -> None:
    for name in dict.fromkeys(given.doubts.seen):
        variation = variation_of(name)
        attack = partial(square, queries=_QUERIES) if variation.attack else None  # no gradient there: more queries
        if len(rows := _standing(given)):
            stands_as(given.scene, rows, variation, attack)
        if variation.attack and len(rows := _standing(given)):  # and where its confidence shows another way: labels
            scene = given.scene
            with frozen(scene.model):
                surrogate = imitated(seen_as(scene.model, variation, scene.images), scene.images,
                                     derived(scene.seeds, 361), classes=scene.logits.shape[1], eps=scene.eps,
                                     norm=scene.norm)
            stands_as(scene, rows, variation, partial(from_surrogate, surrogate=surrogate))
            if len(rows := _standing(given)):
                stands_as(scene, rows, variation, partial(_decided_by, surrogate=surrogate))


def _decided_by(model: Model, images: Tensor, labels: Tensor, *, surrogate: nn.Module, eps: float, norm: str,
                early_stop: bool, generator: Tensor) -> Tensor:
    return decided(model, surrogate, images, labels, eps, norm, _DECISIONS, generator)


def _copy(given: Given) -> None:
    rows = _standing(given)
    if given.scene.loader is not None and len(rows):
        copy_stands(given.scene, rows)


def _pgd_of(model: Model, images: Tensor, labels: Tensor, *, surrogate: Model, eps: float, norm: str, steps: int,
            early_stop: bool = False, generator: Tensor | None = None) -> Tensor:
    """PGD on the margin of `surrogate` to its end, for a stand-in may take for broken what the model gets right."""
    return pgd(surrogate, images, labels, eps=eps, norm=norm, steps=steps, loss="margin", generator=generator)


_GRADIENTS = frozenset({"gradients", "uphill", "power", "black_box", "noise", "radius", "labels_alone", "order",
                        "steps"})
STAGES = (
    Stage("rapid", _rapid, _GRADIENTS | {"scale", "margin", "restarts", "transfer", "beyond"}),
    Stage("from the image", _from_the_image, frozenset({"order", "steps", "noise"})),
    Stage("seen otherwise", _seen_otherwise, frozenset({"variations", "deployed"})),
    Stage("copy", _copy, frozenset({"copy", "memory"})),
    Stage("straight through", _straight_through, _GRADIENTS),
    Stage("sleeping units", _woken, frozenset({"sleepers", "uphill", "power"})),
    Stage("transfer", _transfer, frozenset({"transfer"})),
    Stage("averaged gradients", _averaged, _GRADIENTS),
    Stage("surrogate", _surrogate, _GRADIENTS),
    Stage("queries", _queries, _GRADIENTS),
)
