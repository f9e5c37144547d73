"""A record of a suite examined: the audit, then what its doubts ask for, and the lowest number of all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from parapet.attacks.adaptive import adapted
from parapet.attacks.audit import FULL, AuditBudget, run_audit
from parapet.attacks.audit.settle import settle
from parapet.attacks.audit.stages import Doubts
from parapet.attacks.inputs import Model, frozen
from parapet.attacks.suite import lowered, standing, with_audit

AUDIT, ADAPTIVE = "audit", "adaptive"
# So large a share of the audited images is more than luck.
_WORTH = 0.01


def examine(model: Model, images: Tensor, labels: Tensor, record: dict[str, Any], adversarial: Tensor, rows: Tensor, *,
            norm: str, eps: float, seed: int, surrogates: Sequence[Model] = (), checks: Sequence[str] | None = None,
            limits: AuditBudget = FULL, deep: bool = False, loader: Callable[[], Model] | None = None,
            progress: Callable[[str, float], None] = lambda name, share: None,
            ) -> tuple[dict[str, Any], Tensor, dict[str, Any]]:
    """Audit the images `rows` (n,) of those that a suite attacked, and settle on all of them what the audit doubts.

    model, images (N, C, H, W), labels (N,), norm and eps: as given to `run_suite`, which returned `record` and
    `adversarial`. The other arguments are those of `run_audit`; `progress` is told of the adaptive attacks too.
    Returns (record, adversarial images, report): the record with the attacks "audit" and, where something was in
    doubt, "adaptive", its robust accuracy the share that stands under everything; the report of the audit with the
    `rows`, and with `settled`, {by, stages, sentence}: which attack gave the number that is shown (None: the suite's
    own stands within a hundredth), what each stage broke, and both as a sentence.
    """
    whole = adapted(model)
    report, points = run_audit(whole, images[rows], labels[rows], norm=norm, eps=eps, checks=checks, limits=limits,
                               generator=torch.Generator().manual_seed(seed), surrogates=surrogates, deep=deep,
                               loader=loader,
                               progress=lambda name, share: progress(f"audit {name.replace('_', ' ')}", share))
    before = standing(record, images.device)
    record, adversarial = with_audit(record, adversarial, report, points, rows)
    left = standing(record, images.device)
    beyond = int((before & ~left).sum()) / max(len(rows), 1)
    started = time.perf_counter()
    progress("adaptive attacks", 1.0)
    with frozen(whole):
        found = settle(whole, images, labels, norm=norm, eps=eps, standing=left, doubts=Doubts.of(report, beyond),
                       generator=torch.Generator().manual_seed(seed), surrogates=surrogates, limits=limits,
                       loader=loader)
    by, stages = AUDIT if beyond > _WORTH else None, []
    if found is not None:
        record, adversarial = lowered(record, adversarial, ADAPTIVE, found.stands, found.points,
                                      torch.ones_like(left), time.perf_counter() - started)
        by, stages = found.by if found.broke > _WORTH * len(images) else by, found.stages
    return record, adversarial, {**report, "rows": rows.tolist(), "settled": {
        "by": by, "stages": stages, "sentence": _sentence(by, stages, len(images))}}


def _sentence(by: str | None, stages: list[dict[str, Any]], n: int) -> str:
    """What settled the number, for people."""
    broke = sum(stage["broke"] for stage in stages)
    if by is None:
        return "The suite's own number stands: the audit broke no more than one image in a hundred beyond it."
    if by == AUDIT:
        return "The audit's own attacks settled the number: they broke images that the suite had left standing."
    return (f"The adaptive stage settled the number, mostly by {by}: it broke {broke:,} of {n:,} images that the suite "
            "and the audit had left standing.")
