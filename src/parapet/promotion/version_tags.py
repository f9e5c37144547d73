"""Tags of a version in the registry: its numbers, and how it passed the gate."""

from __future__ import annotations

from typing import Any

from parapet.config import Params
from parapet.promotion.comparison import Comparison


def numbers(chosen: dict[str, Any], front: dict[str, Any], params: Params) -> dict[str, str]:
    """The numbers of `chosen`, an entry of `front`, as judged by the gate (after its own attack)."""
    test = chosen["test"]
    return {"candidate": chosen["id"], "audit": chosen["audit"]["verdict"], "threat": str(params.threat),
            "data": front["data"]["name"], "data_fingerprint": front["data"]["fingerprint"],
            "clean_accuracy": str(test["clean_accuracy"]), "robust_accuracy": str(test["robust_accuracy"]),
            "robust_interval": "{} {}".format(*test["robust_interval"]), "test_images": str(test["n"]),
            "latency_p50_ms": str(chosen["latency_ms"]["p50"])}


def passed(champion: str | None, compared: Comparison | None) -> dict[str, str]:
    """The result of the gate, as tags of a version that passed it."""
    tags = {"gate": "passed", "gate.champion": champion or "none"}
    if compared is None:
        return {**tags, "gate.comparison": "none"}
    return {**tags, "gate.comparison": f"p {compared.robust.p:.3g} robust, {compared.clean.p:.3g} clean, "
                                       f"{compared.robust.n} images"}
