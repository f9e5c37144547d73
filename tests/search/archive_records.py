"""Records of an archive, and its lines as a search writes them, made by hand: any field of the file can be given."""

from __future__ import annotations

from typing import Any

from parapet.disk.files import digest
from parapet.genome import Genome
from parapet.intervals import wilson
from parapet.store.records import Record

RUNGS = ({"epochs": 2, "data_share": 0.25, "crafting": "n_fgsm"}, {"epochs": 4, "data_share": 1.0, "crafting": "own"},
         {"epochs": 12, "data_share": 1.0, "crafting": "own"})
FULL = len(RUNGS) - 1


def line(clean: float = 0.9, robust: float = 0.5, flops: int = 100_000, *, genome: Genome | None = None,
         rung: int = FULL, generation: int = 0, parent: dict[str, Any] | None = None, repeat: int = 0, looks: int = 1,
         n: int = 1000, **changes: Any) -> dict[str, Any]:
    """A feasible candidate of `clean` and `robust` accuracy on `n` images; `changes` are put over the record."""
    genes = (genome or Genome(width=flops // 1000 + 1)).canonical().to_dict()
    fidelity = {"rung": rung, "full": rung == FULL, **RUNGS[rung]}
    key = digest([genes, fidelity, parent, repeat])
    return {
        "schema_version": 5, "id": key[:12], "training_key": key, "evaluation_key": digest([key, "evaluation"]),
        "genome": genes, "generation": generation, "seed": 1234567890123456789, "fidelity": fidelity,
        "parent": parent, "repeat": repeat, "looks": looks, "final": False,
        "status": "feasible", "reason": None, "violation": 0.0,
        "validation": {
            "n": n, "clean_accuracy": clean, "clean_interval": list(wilson(round(clean * n), n)),
            "robust_accuracy": robust, "robust_interval": list(wilson(round(robust * n), n)),
            "attacks": {name: {"alone": min(1.0, robust + more), "left": None} for name, more in
                        (("pgd_ce", 0.03), ("pgd_margin", 0.0), ("fgsm", 0.1))}},
        "audit": {"verdict": "warn", "reasons": ["steps: more steps break another 0.4 % of the images"]},
        "flops": flops, "params": flops // 10, "training_seconds": 2.0, "training_flops": flops * 10_000,
        "latency_ms": {"p50": 0.1, "p90": 0.12, "p99": 0.2, "mean": 0.11, "runs": 200, "batch": 1, "threads": 1,
                       "machine": "x86_64 Linux, Intel(R) Xeon(R) CPU @ 2.20GHz, 2 cores", "onnxruntime": "1.24.1",
                       "providers": ["CPUExecutionProvider"]},
        **changes}


def failed_line(reason: str = "the loss is not finite in epoch 3", *, genome: Genome | None = None, rung: int = FULL,
                generation: int = 0, **changes: Any) -> dict[str, Any]:
    """A candidate that was never measured."""
    missing = dict.fromkeys(("violation", "validation", "audit", "flops", "params", "training_seconds",
                             "training_flops", "latency_ms"))
    return {**line(genome=genome, rung=rung, generation=generation), **missing, "status": "infeasible",
            "reason": reason, **changes}


def record(clean: float = 0.9, robust: float = 0.5, flops: int = 100_000, **options: Any) -> Record:
    """The record of `line`."""
    return Record.from_json(line(clean, robust, flops, **options))


def failed(reason: str = "the loss is not finite in epoch 3", **options: Any) -> Record:
    """The record of `failed_line`."""
    return Record.from_json(failed_line(reason, **options))
