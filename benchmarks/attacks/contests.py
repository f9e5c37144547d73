"""The attacks that are timed beside their peers, with what is to be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.attacks import peers
from parapet.attacks import apgd, auto_attack, carlini_wagner, deepfool, fab, fgsm, pgd, square

Run = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Contest:
    """One attack of ours, the same of others, and what is to be reached.

    `over_bare`: the largest allowed ratio to the bare cost. `over_peer`: by what factor each named peer has to be
    slower. What lies beyond eps counts as robust.
    """

    name: str
    ours: Run
    others: dict[str, Run] = field(default_factory=dict)
    over_bare: float | None = None
    over_peer: dict[str, float] = field(default_factory=dict)
    norm: str = "linf"


def contests(eps: float, names: Sequence[str] = (), *, device: str = "cpu") -> list[Contest]:
    """The attacks that are compared, or those of `names`; L-inf."""
    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def ours(attack: Callable[..., Any], **options: Any) -> Run:
        def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            found = attack(model, images, labels, generator=generator(), **options)
            return found[0] if isinstance(found, tuple) else found
        return run

    inside = {"eps": eps, "early_stop": True}
    step = 2.5 * eps / 40
    aa = partial(peers.official, norm="linf", eps=eps)
    whole = 4.0 if device == "cuda" else 1.6
    every = [
        Contest("FGSM", ours(fgsm, eps=eps), {"torchattacks": peers.torchattacks("FGSM", eps=eps),
                                              "foolbox": peers.foolbox("LinfFastGradientAttack", eps)}, 1.15),
        Contest("PGD-40", ours(pgd, steps=40, step_size=step, **inside),
                {"torchattacks": peers.torchattacks("PGD", eps=eps, alpha=step, steps=40),
                 "foolbox": peers.foolbox("LinfPGD", eps, steps=40, abs_stepsize=step),
                 "art": peers.art("ProjectedGradientDescentPyTorch", eps=eps, eps_step=step, max_iter=40,
                                  batch_size=256)},
                1.15, {"torchattacks": 1.0, "foolbox": 1.0, "art": 1.0}),
        Contest("APGD-CE", ours(apgd, steps=100, **inside), {"official": aa("apgd_ce")}, 1.15),
        Contest("APGD-T", ours(apgd, steps=100, targets=9, **inside), {"official": aa("apgd_t")}, 1.15),
        Contest("FAB-T", ours(fab, steps=100, targets=9, eps=eps), {"official": aa("fab_t")}, 1.5, {"official": 1.0}),
        Contest("Square-1000", ours(square, queries=1000, **inside), {"official": aa("square", queries=1000)}, 1.15),
        Contest("DeepFool-50", ours(deepfool, norm="linf", steps=50, classes=10),
                {"foolbox": peers.foolbox("LinfDeepFoolAttack", steps=50, candidates=10)}, None, {"foolbox": 4.0}),
        Contest("DeepFool-50 L2", ours(deepfool, norm="l2", steps=50, classes=10),
                {"foolbox": peers.foolbox("L2DeepFoolAttack", steps=50, candidates=10)}, None, {"foolbox": 4.0},
                norm="l2"),
        Contest("C&W L2 200x5", ours(carlini_wagner, steps=200, searches=5),
                {"foolbox": peers.foolbox("L2CarliniWagnerAttack", steps=200, binary_search_steps=5)}, norm="l2"),
        Contest("standard AutoAttack", ours(auto_attack, eps=eps),
                {"official": aa("standard")}, None, {"official": whole}),
    ]
    return [contest for contest in every if not names or contest.name in names]
