"""What a candidate of a search meets: a small budget of the rapid AutoAttack against PGD, in equal time.

Validation images, on which a search chooses. Processor seconds, so that a busy machine does not matter much.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.attacks import nets
from benchmarks.attacks.rapid import THREATS
from parapet.attacks import Attack, evaluate
from parapet.config import AttackEvaluationConfig
from parapet.disk.files import file_digest, write_json
from parapet.steps.attack_evaluation import suite_of
from parapet.versions import ATTACK_VERSION

IMAGES, SEEDS = 300, (0, 1)
_BATCH = 128


def suites() -> dict[str, list[Attack]]:
    """What is compared: PGD with the default's 20 steps, and the default."""
    return {"pgd": suite_of(AttackEvaluationConfig(suite="pgd")), "rapid": suite_of(AttackEvaluationConfig())}


def run(folder: Path, names: Sequence[str], hardware: str, results: Path, count: int = IMAGES) -> None:
    """Compare on every net of `names` whose weights are in `folder`; print a table, keep `results`/budget.json."""
    path, found = results / "budget.json", []
    known = json.loads(path.read_text())["records"] if path.exists() else []
    for name, prepared, model in nets.trained(folder, names):
        images, labels = prepared.split("validation", limit=count).all()
        for norm, eps, _ in THREATS[nets.NETS[name].data]:
            found.append({"net": name, "norm": norm, "eps": eps, "n": len(images), "seeds": SEEDS,
                          "weights": file_digest(folder / f"{name}.safetensors"), "attack_version": ATTACK_VERSION,
                          "hardware": hardware, **compare(model, images, labels, norm, eps)})
            print(found[-1], flush=True)
            others = [one for one in known if (one["net"], one["norm"]) not in {
                (new["net"], new["norm"]) for new in found}]
            write_json(path, {"records": [*others, *found]})
    Console(width=120).print(table(found))


def compare(model: nn.Module, images: Tensor, labels: Tensor, norm: str, eps: float) -> dict[str, Any]:
    """{suite: {robust, seconds}}: robust accuracy with each seed, and processor seconds of one evaluation."""
    compared = {}
    for name, suite in suites().items():
        began = time.process_time()
        robust = [evaluate(model, images, labels, norm=norm, eps=eps, suite=suite, batch_size=_BATCH,
                           generator=torch.Generator().manual_seed(seed))["robust_accuracy"] for seed in SEEDS]
        compared[name] = {"robust": robust, "seconds": (time.process_time() - began) / len(SEEDS)}
    return compared


def table(found: Sequence[dict[str, Any]]) -> Table:
    """A row for each comparison, and one for all of them together."""
    drawn = Table(title=f"PGD and a small budget of rapid, mean of seeds {SEEDS}", title_justify="left")
    for heading in ("net", "threat", "n", "pgd", "rapid", "difference", "seconds of pgd", "of rapid"):
        drawn.add_column(heading)
    for one in found:
        pgd, rapid = (sum(one[name]["robust"]) / len(SEEDS) for name in ("pgd", "rapid"))
        drawn.add_row(one["net"], f"{one['norm']} {one['eps']:.3g}", str(one["n"]), f"{pgd:.1%}", f"{rapid:.1%}",
                      f"{100 * (rapid - pgd):+.1f}", f"{one['pgd']['seconds']:.2f}", f"{one['rapid']['seconds']:.2f}")
    drawn.add_section()
    drawn.add_row("all", "", "", "", "", "", *(f"{sum(one[name]['seconds'] for one in found):.2f}"
                                               for name in ("pgd", "rapid")))
    return drawn
