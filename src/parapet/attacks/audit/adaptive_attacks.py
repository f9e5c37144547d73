"""The attacks of the adaptive stage, each of which runs after the doubts that it answers.

Tramèr, Carlini, Brendel, Mądry 2020, "On Adaptive Attacks to Adversarial Example Defenses": a defence is evaluated by
an attack that is designed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parapet.attacks.adaptive import Bpda
from parapet.attacks.audit.context import AuditContext
from parapet.attacks.audit.fresh_copies import attack_copies
from parapet.attacks.audit.inactive_units import inactive_units_attack
from parapet.attacks.audit.surrogate import decision_attacks, fit_surrogate, transfer_from_surrogate
from parapet.attacks.audit.variation_check import survivors_under
from parapet.attacks.audit.variations import IN_BATCHES, IN_STEPS, VARIATIONS, apply_variation, variation_named
from parapet.attacks.audit.verdicts import FAIL_GAP, WARN_GAP
from parapet.attacks.balls import widest
from parapet.attacks.black_box.square import square
from parapet.attacks.black_box.transfer import transfer
from parapet.attacks.gradient.pgd import pgd
from parapet.attacks.gradient_blocking import blocking_layers
from parapet.attacks.inputs import Model, ask, frozen
from parapet.attacks.noise import derived
from parapet.attacks.rapid import rapid

# Draws over which gradients are averaged, from a cube whose half width is this share of the radius.
_DRAWS, _SHARE = 8, 0.5
# Queries per image of one round of Square, the most of all rounds, and the share of the standing images that a round
# has to break for another round to follow.
_QUERIES, _MOST_QUERIES, _PAYS = 2500, 20_000, 0.01
_DECISION_QUERIES = 2500
_STEPS = 40


@dataclass(frozen=True)
class Doubts:
    """What speaks against a robust accuracy: the checks that did not pass, the variations under which the model was
    less robust, and by which share of the audited images the audit lowered it beyond the suite."""

    checks: frozenset[str]
    variations: tuple[str, ...]
    beyond: float

    @classmethod
    def of(cls, report: dict[str, Any], beyond: float) -> Doubts:
        """The doubts that the report of an audit raises."""
        doubted = {check["id"]: check["numbers"] for check in report["checks"] if check["verdict"] != "pass"}
        return cls(frozenset(doubted), tuple(_doubted_variations(doubted)), beyond)


def _doubted_variations(doubted: dict[str, Any]) -> Iterator[str]:
    """The variations under which the model was less robust, from the numbers of the checks that did not pass."""
    numbers = doubted.get("variations", {})
    yield from (name for name, stands in numbers.items() if (name in VARIATIONS or name.startswith(IN_BATCHES))
                and name != "as before" and stands is not None and numbers["as_before"] - stands > FAIL_GAP)
    numbers = doubted.get("deployed", {})
    yield from (name for name in ("one at a time", "in inference mode", "as served")
                if name.replace(" ", "_") in numbers)
    yield from (name for name, stands in numbers.items() if (name == "8-bit pixels" or name.startswith(IN_STEPS))
                and numbers["as_before"] - stands > WARN_GAP)


@dataclass(frozen=True)
class Stage:
    """An attack on the standing images, and the doubts after which it runs."""

    name: str
    attack: Callable[[AuditContext, Doubts], None]
    after: frozenset[str]

    def wanted(self, doubts: Doubts) -> bool:
        """Whether this attack runs after one of the doubts."""
        if self.attack is _vary and not doubts.variations:
            return False
        return bool(self.after & doubts.checks) or ("beyond" in self.after and doubts.beyond > WARN_GAP)


def _standing(context: AuditContext) -> Tensor:
    return context.standing.nonzero().squeeze(1)


def _rapid(context: AuditContext, doubts: Doubts) -> None:
    context.survivors(rapid, stream=301, among=context.standing)


def _pgd_from_image(context: AuditContext, doubts: Doubts) -> None:
    """PGD without a random start: if single steps break more than many steps, random starts may have missed this."""
    for stream, steps in ((381, _STEPS), (382, 3 * _STEPS)):
        context.survivors(pgd, stream=stream, among=context.standing, steps=steps, loss="margin", random_start=False)


def _straight_through(context: AuditContext, doubts: Doubts) -> None:
    layers = blocking_layers(context.model, context.images[:32])
    if not layers:
        return
    through = Bpda(context.model, "identity", layers)
    for steps in (_STEPS, 3 * _STEPS):
        context.survivors(_pgd_on_surrogate, stream=302 + steps, among=context.standing, surrogate=through, steps=steps)
    context.survivors(rapid, stream=304, model=through, among=context.standing)


def _activate_units(context: AuditContext, doubts: Doubts) -> None:
    context.survivors(inactive_units_attack, stream=351, among=context.standing, classes=context.logits.shape[1])


def _average_gradients(context: AuditContext, doubts: Doubts) -> None:
    width = 2 * _SHARE * context.eps / widest(context.images, context.norm)
    generator = torch.Generator().manual_seed(int(context.seeds[0]) % 2**63)

    def smooth(images: Tensor) -> Tensor:
        copies = images.repeat(_DRAWS, 1, 1, 1)
        draws = torch.rand(copies.shape, generator=generator).to(copies) - 0.5
        return ask(context.model, (copies + width * draws).clamp(0, 1)).reshape(_DRAWS, len(images), -1).mean(0)
    for steps in (_STEPS, 3 * _STEPS):
        context.survivors(_pgd_on_surrogate, stream=311 + steps, among=context.standing, surrogate=smooth, steps=steps)


def _surrogate(context: AuditContext, doubts: Doubts) -> None:
    surrogate = fit_surrogate(context.model, context.images, derived(context.seeds, 321),
                              classes=context.logits.shape[1], eps=context.eps, norm=context.norm)
    context.survivors(transfer_from_surrogate, stream=322, among=context.standing, surrogate=surrogate)
    rows = _standing(context)
    if len(rows) and {"labels_alone", "black_box"} & doubts.checks:
        context.try_points_at(rows, decision_attacks(
            context.model, surrogate, context.images[rows], context.labels[rows], context.eps, context.norm,
            _DECISION_QUERIES, derived(context.seeds[rows], 323)))


def _transfer(context: AuditContext, doubts: Doubts) -> None:
    if context.surrogates:
        context.survivors(transfer, stream=331, among=context.standing, surrogate=list(context.surrogates))


def _square(context: AuditContext, doubts: Doubts) -> None:
    """Rounds of Square, as long as each breaks one in a hundred of the standing images."""
    for turn in range(_MOST_QUERIES // _QUERIES):
        before = int(context.standing.sum())
        context.survivors(square, stream=341 + turn, among=context.standing, queries=_QUERIES)
        if before - int(context.standing.sum()) <= _PAYS * before:
            return


def _vary(context: AuditContext, doubts: Doubts) -> None:
    for name in dict.fromkeys(doubts.variations):
        variation = variation_named(name)
        # A variation with an attack of its own gives no gradients: Square gets more queries.
        attack = partial(square, queries=_QUERIES) if variation.attack else None
        if len(rows := _standing(context)):
            survivors_under(context, rows, variation, attack)
        # Its confidences may mislead as well: attacks that use predicted labels only.
        if variation.attack and len(rows := _standing(context)):
            with frozen(context.model):
                surrogate = fit_surrogate(apply_variation(context.model, variation, context.images), context.images,
                                          derived(context.seeds, 361), classes=context.logits.shape[1],
                                          eps=context.eps, norm=context.norm)
            survivors_under(context, rows, variation, partial(transfer_from_surrogate, surrogate=surrogate))
            if len(rows := _standing(context)):
                survivors_under(context, rows, variation, partial(_decision_attacks, surrogate=surrogate))


def _decision_attacks(model: Model, images: Tensor, labels: Tensor, *, surrogate: nn.Module, eps: float, norm: str,
                      early_stop: bool, generator: Tensor) -> Tensor:
    return decision_attacks(model, surrogate, images, labels, eps, norm, _DECISION_QUERIES, generator)


def _copy(context: AuditContext, doubts: Doubts) -> None:
    rows = _standing(context)
    if context.loader is not None and len(rows):
        attack_copies(context, rows)


def _pgd_on_surrogate(model: Model, images: Tensor, labels: Tensor, *, surrogate: Model, eps: float, norm: str,
                      steps: int, early_stop: bool = False, generator: Tensor | None = None) -> Tensor:
    """PGD on the margin of `surrogate`, without early stop: the surrogate may misclassify what the model does not."""
    return pgd(surrogate, images, labels, eps=eps, norm=norm, steps=steps, loss="margin", generator=generator)


_GRADIENTS = frozenset({"gradients", "uphill", "power", "black_box", "noise", "radius", "labels_alone", "order",
                        "steps"})
STAGES = (
    Stage("rapid", _rapid, _GRADIENTS | {"scale", "margin", "restarts", "transfer", "beyond"}),
    Stage("from the image", _pgd_from_image, frozenset({"order", "steps", "noise"})),
    Stage("seen otherwise", _vary, frozenset({"variations", "deployed"})),
    Stage("copy", _copy, frozenset({"copy", "memory"})),
    Stage("straight through", _straight_through, _GRADIENTS),
    Stage("sleeping units", _activate_units, frozenset({"sleepers", "uphill", "power"})),
    Stage("transfer", _transfer, frozenset({"transfer"})),
    Stage("averaged gradients", _average_gradients, _GRADIENTS),
    Stage("surrogate", _surrogate, _GRADIENTS),
    Stage("queries", _square, _GRADIENTS),
)
