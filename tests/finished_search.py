"""A finished search with a good member and a much worse one, for what comes after it: promotion and serving."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from parapet.data import digits
from parapet.disk.files import read_json

# Every gene has one choice but the two that make a network larger: the front holds a small one and a large one.
SETTINGS = {
    "search": {"population": 2, "generations": 1, "minimum_clean_accuracy": 0.0,
               "space": {"backbone": ["plain"], "width": [4, 8], "depth": [1, 2], "denoiser": ["none"],
                         "input_filter": ["none"], "activation": ["silu"], "loss": ["pgd"], "clean_share": [0.0],
                         "trades_beta": [0.0], "steps": [2], "learning_rate": [0.4]}},
    "training": {"epochs": 8}, "promotion": {"audit_images": 0},
    "attack_evaluation": {"images": 100, "rapid_steps": 2, "rapid_queries": 5, "audit_images": 40},
    "export": {"latency_runs": 10, "latency_seconds": 0, "latency_warmup": 1, "throughput_batch": 0},
    "full_evaluation": {"images": 200, "pgd_steps": 4, "pgd_restarts": 1, "deepfool_steps": 3, "audit_images": 30,
                        "apgd_steps": 4, "apgd_targets": 2, "fab_steps": 2, "square_queries": 20,
                        "calibration_images": 32, "int8_images": 30, "int8_queries": 5},
    "front": {"keep_failed_audits": True},
}


def members(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The small and the large member of `out`/front.json."""
    own = read_json(out / "front.json")["candidates"]
    small, large = sorted(own, key=lambda member: member["flops"])
    return small, large


def finish(folder: Path, uri: str | None = None) -> Path:
    """`parapet run` in `folder`, tracked by the MLflow at `uri`; returns the folder of artifacts beside params.yaml."""
    (folder / "params.yaml").write_text(json.dumps({**SETTINGS, "tracking": {"enabled": uri is not None}}))
    digits.export(folder / "data" / "digits")
    environment = {name: value for name, value in os.environ.items() if name != "PARAPET_DATA"} | {
        "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "parapet.cli", "run", "--params", "params.yaml", "--out", "artifacts"],
                          cwd=folder, env={**environment, "MLFLOW_TRACKING_URI": uri or ""}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "artifacts"
