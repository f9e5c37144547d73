"""A search that takes seconds: two generations of two small networks on the digits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

TINY = {
    "tracking": {"enabled": False},
    "search": {"population": 2, "generations": 2, "minimum_clean_accuracy": 0.0,
               "space": {"width": [4], "depth": [1], "denoiser": ["none"], "input_filter": ["none"],
                         "activation": ["relu", "silu"]}},
    "training": {"epochs": 3, "validate_every": 3, "checkpoint_seconds": 0},
    "attack_evaluation": {"images": 60, "rapid_steps": 2, "rapid_queries": 5, "audit_images": 40},
    "export": {"latency_runs": 10, "latency_seconds": 0, "latency_warmup": 1},
    "full_evaluation": {"images": 60, "pgd_steps": 3, "pgd_restarts": 1, "deepfool_steps": 3, "audit_images": 30,
                        "apgd_steps": 3, "apgd_targets": 2, "fab_steps": 3, "square_queries": 10},
    "front": {"keep_failed_audits": True},
}


def command(folder: Path, dataset: Path) -> list[str]:
    """`parapet search` with everything it makes below `folder`."""
    params = folder / "params.yaml"
    params.write_text(json.dumps(TINY))
    return [sys.executable, "-m", "parapet.cli", "search", "--params", str(params), "--dataset", str(dataset),
            "--out", str(folder / "search"), "--cache", str(folder / "cache")]
