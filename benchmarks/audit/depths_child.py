"""Processor seconds of suite and audit at each depth, with whichever version of Parapet is on the import path.

Run by `depths.py`, which hands over weights, a data set, the number of images, a radius and a params.yaml; prints one
JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from parapet import config
from parapet.attacks import adapted, full_suite, run_audit, run_suite, search_suite
from parapet.attacks.audit import CHEAP_CHECKS, FULL
from parapet.data.dataset import Dataset
from parapet.models import load

try:
    from parapet.attacks import examine
    from parapet.attacks.audit import CHEAP
except ImportError:  # before the adaptive stage
    examine, CHEAP = None, FULL
try:
    from parapet.steps.attack_evaluation import suite_of
except ImportError:  # before the rapid version was the search's suite
    suite_of = None


def suites(params: config.Params) -> dict[str, Any]:
    """What a candidate and what a member of the front meets."""
    search, full = params.attack_evaluation, params.full_evaluation
    return {"candidate": suite_of(search) if suite_of else
            search_suite(pgd_steps=search.pgd_steps, pgd_restarts=search.pgd_restarts),
            "front": full_suite(pgd_steps=full.pgd_steps, pgd_restarts=full.pgd_restarts,
                                deepfool_steps=full.deepfool_steps, apgd_steps=full.apgd_steps,
                                targets=full.apgd_targets, fab_steps=full.fab_steps,
                                square_queries=full.square_queries)}


def main(weights: Path, dataset: Path, count: int, eps: float, params: Path) -> dict[str, float]:
    """Seconds of suite and audit of a candidate and of a member of the front, and of its audit and the deep one."""
    torch.set_num_threads(1)
    model, split = load(weights), Dataset.open(dataset).split("test")
    images, labels = split.all()
    rows, few = torch.arange(count), slice(count)
    seconds: dict[str, float] = {}

    def audited(name: str, record: Any, adversarial: Any, checks: object, limits: object, **more: object) -> None:
        began, generator = time.process_time(), torch.Generator().manual_seed(0)
        if examine is None:
            run_audit(adapted(model), images[few], labels[few], norm="linf", eps=eps, generator=generator,
                      checks=checks, limits=limits)
        else:
            examine(model, images, labels, record, adversarial, rows, norm="linf", eps=eps, seed=0, checks=checks,
                    limits=limits, **more)
        seconds[name] = time.process_time() - began
    for name, suite in suites(config.load(params)).items():
        began = time.process_time()
        record, adversarial = run_suite(model, images, labels, norm="linf", eps=eps, suite=suite,
                                        generator=torch.Generator().manual_seed(0))
        attacked = time.process_time() - began
        checks, limits = (CHEAP_CHECKS, CHEAP) if name == "candidate" else (None, FULL)
        audited("audit", record, adversarial, checks, limits)
        seconds[name] = attacked + seconds["audit"]
    if examine is not None:
        audited("deep", record, adversarial, None, FULL, deep=True, loader=partial(load, weights))
    return seconds


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]),
                          Path(sys.argv[5]))))
