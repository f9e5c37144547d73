"""promotion: one member of the front chosen, registered, and made champion if the gate lets it through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from parapet.config import Params
from parapet.errors import PromotionRefused
from parapet.files import read_json
from parapet.report.card import model_card
from parapet.search.selection import select

SECTIONS = ("threat", "tracking", "promotion")


def run(params: Params, out: Path, *, uri: str, wish: str | None = None) -> dict[str, Any]:
    """Select from `out`/front.json by `wish` (default: `promotion.select`), register the ONNX file, pass the gate.

    The gate reads the test split: audit not failed, lower end of the 95 % interval of robust accuracy above its bar,
    latency under its ceiling. Returns {id, version, reason}. Raises PromotionRefused with every reason: then the
    version is registered as challenger, and the champion stays who it was.
    """
    from parapet.tracking import registry  # imports of MLflow are slow, and only this step needs the registry

    config = params.promotion
    front = read_json(out / "front.json")
    chosen, reason = select(front["candidates"], config.select if wish is None else wish)
    evaluation = read_json(out / chosen["evaluation"])
    test = chosen["test"]
    tags = {"candidate": chosen["id"], "audit": chosen["audit"]["verdict"], "threat": str(params.threat),
            "data_fingerprint": front["data"]["fingerprint"], "clean_accuracy": str(test["clean_accuracy"]),
            "robust_accuracy": str(test["robust_accuracy"])}
    example = np.zeros((2, *front["data"]["image_shape"]), dtype=np.float32)
    version = registry.register(uri, config.model_name, out / chosen["onnx"], chosen["mlflow_run_id"], tags,
                                model_card(chosen, front, evaluation), example, experiment=params.tracking.experiment)
    registry.set_alias(uri, config.model_name, "challenger", version)
    refusals = gate(chosen, params)
    if refusals:
        raise PromotionRefused(f"version {version} of {config.model_name} ({chosen['id']}) stays challenger: "
                               f"{'; '.join(refusals)}.")
    registry.move_champion(uri, config.model_name, version)
    return {"id": chosen["id"], "version": version, "reason": reason}


def gate(chosen: dict[str, Any], params: Params) -> list[str]:
    """Every reason why `chosen`, an entry of front.json, must not become champion; empty if there is none."""
    config, refusals = params.promotion, []
    if chosen["audit"]["verdict"] == "fail":
        refusals.append(f"the audit failed ({' '.join(chosen['audit']['reasons'])})")
    low = chosen["test"]["robust_interval"][0]
    if low < config.minimum_robust_accuracy:
        refusals.append(f"the lower end of robust accuracy's 95 % interval is {low:.3f}, below "
                        f"promotion.minimum_robust_accuracy {config.minimum_robust_accuracy:g}")
    latency = chosen["latency_ms"]["p50"]
    if latency > config.maximum_latency_ms:
        refusals.append(f"the median latency is {latency:.3g} ms, above promotion.maximum_latency_ms "
                        f"{config.maximum_latency_ms:g}")
    return refusals
