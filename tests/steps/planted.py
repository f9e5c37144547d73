"""Stands in for `measure.run` in a worker: a death, or a result made up in no time, as a file says for each genome."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from parapet.config import Params, parse
from parapet.search.feasibility import record_of
from parapet.steps import measure
from parapet.store.records import Proposal


def run(*, proposal: dict[str, Any], params: dict[str, Any], **others: Any) -> dict[str, Any]:
    """PLANTED names a JSON file: {activation: how, or [how, times]}; how is KILL, SEGV, memory or value. With
    {"honest": true} what does not fail is really trained."""
    path = Path(os.environ["PLANTED"])
    plan = json.loads(path.read_text())
    how = None if proposal.get("undefended") else plan.get(proposal["genome"]["activation"])
    if isinstance(how, list):
        how, times = how
        count = path.with_name(f"count-{proposal['id']}")
        done = int(count.read_text()) if count.exists() else 0
        count.write_text(str(done + 1))
        how = how if done < times else None
    if how in ("KILL", "SEGV"):
        os.kill(os.getpid(), getattr(signal, f"SIG{how}"))
    if how == "memory":
        raise MemoryError
    if how == "value":
        raise ValueError("a planted bug")
    if plan.get("honest"):
        return measure.run(proposal=proposal, params=params, **others)
    robust = int(proposal["id"][:4], 16) / 2**17
    part = {"status": "done", "flops": 1000 * proposal["genome"]["width"], "params": 100, "training_seconds": 1.0,
            "training_flops": 10, "latency_ms": None, "audit": {"verdict": "pass", "checks": []}, "evaluation": {
                "n": 60, "clean_accuracy": 0.5 + robust, "clean_interval": [0.4, 1.0], "robust_accuracy": robust,
                "robust_interval": [0.0, 0.6], "attacks": {}}}
    return record_of(Proposal.from_json(proposal), [part], parse(Params, params)).to_json()
