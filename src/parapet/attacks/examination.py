"""Audits the result of a suite, runs the adaptive attacks that the audit calls for, and keeps the lowest accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from parapet.attacks.adaptive import adapted
from parapet.attacks.audit import FULL, AuditBudget, run_audit
from parapet.attacks.audit.adaptive_attacks import Doubts
from parapet.attacks.audit.adaptive_stage import run_adaptive_stage
from parapet.attacks.inputs import Model, frozen
from parapet.attacks.suite import lowered, standing, with_audit

AUDIT, ADAPTIVE = "audit", "adaptive"
# A larger share of the audited images is no luck of one more random start.
_WORTH = 0.01


def examine(model: Model, images: Tensor, labels: Tensor, record: dict[str, Any], adversarial: Tensor, rows: Tensor, *,
            norm: str, eps: float, seed: int, surrogates: Sequence[Model] = (), checks: Sequence[str] | None = None,
            limits: AuditBudget = FULL, deep: bool = False, loader: Callable[[], Model] | None = None,
            progress: Callable[[str, float], None] = lambda name, share: None,
            ) -> tuple[dict[str, Any], Tensor, dict[str, Any]]:
    """Audit the images `rows` (n,) of those that a suite attacked; if that raises doubts, attack all images adaptively.

    model, images (N, C, H, W), labels (N,), norm and eps: as given to `run_suite`, which returned `record` and
    `adversarial`. The other arguments are those of `run_audit`; `progress` also reports the adaptive attacks.
    Returns (record, adversarial images, report). The record has the attacks "audit" and, if there were doubts,
    "adaptive", and the robust accuracy under all attacks. The report is that of the audit with the `rows` and with
    `settled`, {by, stages, sentence}: which attack determined the reported accuracy (None: that of the suite holds
    within a hundredth), how many images each adaptive attack broke, and both as a sentence.
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
        found = run_adaptive_stage(whole, images, labels, norm=norm, eps=eps, standing=left,
                                   doubts=Doubts.of(report, beyond), generator=torch.Generator().manual_seed(seed),
                                   surrogates=surrogates, limits=limits, loader=loader)
    by, stages, broke = AUDIT if beyond > _WORTH else None, [], 0
    if found is not None:
        record, adversarial = lowered(record, adversarial, ADAPTIVE, found.stands, found.points,
                                      torch.ones_like(left), time.perf_counter() - started)
        stages, broke = found.stages, sum(stage["broke"] for stage in found.stages)
        by = found.by if broke > _WORTH * len(images) else by
    return record, adversarial, {**report, "rows": rows.tolist(), "settled": {
        "by": by, "stages": stages, "sentence": _sentence(by, broke, len(images))}}


def _sentence(by: str | None, broke: int, n: int) -> str:
    """Which attacks determined the robust accuracy, as a sentence for the report."""
    if by is None:
        return "The suite's robust accuracy holds: the audit broke no more than one image in a hundred beyond it."
    if by == AUDIT:
        return "The robust accuracy comes from the audit: its attacks broke images that had survived the suite."
    return (f'The robust accuracy comes from the adaptive attacks, mostly "{by}": they broke {broke:,} of {n:,} images '
            "that had survived the suite and the audit.")
