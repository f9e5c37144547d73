"""Decides whether a measured candidate is feasible, and builds its record from the results of its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from parapet.config import Params
from parapet.errors import WorkError
from parapet.search.estimate import HOPELESS
from parapet.store.records import Accuracies, Proposal, Record
from parapet.store.results import accuracies, verdict

# A factor that keeps the violation just below HOPELESS, so that the candidate can still go to the next rung.
_NEARLY = 0.999
_MEASURED = ("flops", "params", "training_seconds", "training_flops", "latency_ms")


def record_of(proposal: Proposal, parts: Iterable[Mapping[str, Any] | None], params: Params) -> Record:
    """The archive record of a proposal, from the results of training, attack_evaluation and export.

    A candidate is infeasible where a part is missing or infeasible, where its audit failed, and where its clean
    accuracy is below search.minimum_clean_accuracy. The undefended reference network needs neither.
    """
    merged: dict[str, Any] = {}
    reason, violation = None, None
    for part in parts:
        if part is None or part["status"] != "done":
            reason = reason or (part["reason"] if part else "a step left no result")
        else:
            merged |= part
    evaluation, audit = merged.get("evaluation"), merged.get("audit")
    validation = None if evaluation is None else Accuracies(**accuracies(evaluation))
    if reason is None and (validation is None or audit is None):
        reason = "a step left no result"
    if reason is None and validation is not None and audit is not None:
        reason, violation = _shortfall(validation, audit, proposal, params)
    return Record(
        id=proposal.id, training_key=proposal.training_key, evaluation_key=proposal.evaluation_key,
        genes=proposal.genome.to_dict(), generation=proposal.generation, seed=proposal.seed,
        fidelity=proposal.fidelity, parent=proposal.parent, repeat=proposal.repeat, evaluations=proposal.evaluation,
        final=proposal.final, status="feasible" if reason is None else "infeasible", reason=reason,
        violation=violation, validation=validation, audit=None if audit is None else verdict(audit),
        **{name: merged.get(name) for name in _MEASURED})


def infeasible_record(proposal: Proposal, reason: str | None, params: Params) -> Record:
    """The record of a candidate that has no measurements, with the `reason` for that."""
    return record_of(proposal, [{"status": "infeasible", "reason": reason}], params)


def refuse_empty_front(records: Sequence[Record]) -> None:
    """Raise WorkError, with the reasons, where no candidate is feasible or can become feasible with more training."""
    if records and not any(record.is_feasible or _may_improve(record) for record in records):
        reasons = sorted({str(record.reason) for record in records})
        raise WorkError(f"all {len(records)} candidates failed: {'; '.join(reasons[:3])}.")


def _shortfall(validation: Accuracies, audit: Mapping[str, Any], proposal: Proposal,
               params: Params) -> tuple[str | None, float]:
    """(reason, violation): why a measured candidate is infeasible, and by how much; (None, 0.0) where it is feasible.
    """
    floor, full = params.search.minimum_clean_accuracy, proposal.fidelity.full
    if proposal.undefended:
        return None, 0.0
    if audit["verdict"] == "fail":
        failed = {check["id"] for check in audit["checks"] if check["verdict"] == "fail"}
        # The clean-accuracy check of a partly trained network may pass after more training.
        untrained = not full and failed == {"clean_accuracy"}
        return ("the audit failed: " + " ".join(verdict(dict(audit))["reasons"]),
                (1 - validation.clean_accuracy) * _NEARLY if untrained else HOPELESS)
    if validation.clean_accuracy < floor:
        early = "" if full else f" after {proposal.fidelity.epochs} epochs"
        return (f"clean accuracy {validation.clean_accuracy:.3f}{early} is below "
                f"search.minimum_clean_accuracy {floor:g}"), floor - validation.clean_accuracy
    return None, 0.0


def _may_improve(record: Record) -> bool:
    return not record.fidelity.full and record.violation is not None and record.violation < HOPELESS
