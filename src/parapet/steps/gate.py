"""The gate that a model passes before it may be champion: whose graph it is, bars, and the champion that it meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.errors import InputError
from parapet.files import file_digest, read_json
from parapet.genome import Genome
from parapet.steps import results


def check_graph(chosen: dict[str, Any], out: Path) -> Path:
    """The ONNX file of `chosen`, an entry of `out`/front.json; InputError unless it is the very file that was measured.

    It is damaged if onnxruntime cannot load it, another candidate's if the genome inside is another, and was changed
    if its digest is not the one that `export` wrote down.
    """
    from parapet.deployment.export import read_metadata
    from parapet.deployment.runtime import session

    path = out / chosen["onnx"]
    again = "run `parapet front` again, which copies the file that was measured"
    if not path.is_file():
        raise InputError(f"{path}, the graph of candidate {chosen['id']}, does not exist; {again}.")
    try:
        session(path)
        genome = read_metadata(path).get("genome")
    except Exception:  # onnxruntime and protobuf raise kinds of their own
        raise InputError(f"{path}, the graph of candidate {chosen['id']}, is damaged: onnxruntime cannot load it; "
                         f"{again}.") from None
    if genome != chosen["genome"]:
        raise InputError(f"{path} holds {_named(genome)}, but candidate {chosen['id']} is {_named(chosen['genome'])}; "
                         f"{again}.")
    exported = out / "search" / "candidates" / chosen["id"] / results.EXPORT
    if exported.is_file() and (expected := read_json(exported).get("sha256")) not in (None, file_digest(path)):
        raise InputError(f"{path} is not the graph that was measured for candidate {chosen['id']}: its SHA-256 is "
                         f"{file_digest(path)[:12]} instead of {expected[:12]}; {again}.")
    return path


def gate(chosen: dict[str, Any], params: Params) -> list[str]:
    """Every bar that `chosen`, an entry of front.json, does not clear; empty if there is none.

    All numbers are those of the test split.
    """
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


def parity(chosen: dict[str, Any]) -> list[str]:
    """Why the ONNX graph of `chosen` may not stand for the network that was attacked; empty where parity held."""
    found = chosen.get("onnx_parity")
    if found is None:
        return ["front.json does not say whether the ONNX graph does what the network does; run `parapet "
                "full_evaluation` and `parapet front` again"]
    if found["verdict"] != "held":
        reason = (found["reason"] or "no reason given").rstrip(".")
        return [f"the ONNX graph does not do what the network does ({reason}; labels agree on "
                f"{found['label_agreement']:.2%}, robust accuracy differs by "
                f"{100 * abs(found['robust_difference']):.2f} points)"]
    return []


def _named(genome: dict[str, Any] | None) -> str:
    if genome is None:
        return "no genome"
    try:
        return f"the genome [{Genome.from_dict(genome)}]"
    except InputError:
        return f"the genome {genome}"
