"""The gate that a model passes before it may be champion: whose files they are, and the bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.errors import InputError, PromotionRefused, is_of_the_machine
from parapet.files import file_digest, read_json
from parapet.genome import Genome
from parapet.store import results
from parapet.store.consistency import audit_problems, problems
from parapet.store.front_file import EVALUATE


def check_files(chosen: dict[str, Any], out: Path) -> None:
    """Raise InputError unless the ONNX file and the weights of `chosen`, an entry of `out`/front.json, are the very
    files that were attacked, and the record of its training lies beside the weights.

    Digests tell a file that was changed; for one that is, what can be found out is told: the ONNX file is damaged if
    onnxruntime cannot load it, and another candidate's if the genome inside is another.
    """
    onnx, weights = out / chosen["onnx"], out / chosen["weights"]
    own = weights.parent / results.ONNX
    again = "run `parapet front` again, which copies the file that was measured"
    if _changed(onnx, chosen, "onnx", "the graph", again):
        why = _what_it_is(onnx, chosen["genome"]) or f"its SHA-256 is {_differs(onnx, chosen, 'onnx')}"
        raise InputError(f"{onnx} is not the graph that was measured for candidate {chosen['id']}: {why}; {again}.")
    again = "bring it back with `dvc checkout`, or run `parapet search` and what follows again"
    if _changed(weights, chosen, "weights", "the weights", again):
        raise InputError(f"{weights} does not hold the weights that were attacked for candidate {chosen['id']}: its "
                         f"SHA-256 is {_differs(weights, chosen, 'weights')}; {again}.")
    if _changed(own, chosen, "onnx", "the graph", again):
        raise InputError(f"{own} is not the graph that was measured for candidate {chosen['id']}, which {onnx} is: its "
                         f"SHA-256 is {_differs(own, chosen, 'onnx')}; {again}.")
    training = weights.parent / results.TRAINING
    try:
        record = read_json(training)
        complete = record["id"] == chosen["id"] and {"key", "fingerprint"} <= record.keys()
    except (OSError, ValueError, TypeError, KeyError):
        complete = False
    if not complete:
        raise InputError(f"{training}, the record of the training of candidate {chosen['id']}, is missing, damaged or "
                         f"another one's; {again}.")


def check_front(out: Path, chosen: dict[str, Any], evaluation: dict[str, Any]) -> None:
    """Raise PromotionRefused where what `out`/front.json says of its entry `chosen`, or `evaluation`, which it was made
    from, does not follow from the outcomes that were recorded there image by image."""
    record, told = evaluation["evaluation"], chosen["test"]
    check_numbers(str(out / chosen["evaluation"]), record, evaluation["audit"])
    shown = {name: {**record["attacks"].get(name, {}), **shares} for name, shares in told["attacks"].items()}
    check_numbers(f"candidate {chosen['id']} in {out / 'front.json'}", {**record, **told, "attacks": shown})


def check_numbers(name: str, record: dict[str, Any], audit: dict[str, Any] | None = None) -> None:
    """Raise PromotionRefused unless the accuracies and intervals of `record`, a suite's, are those of its outcomes, and
    an `audit` beside it has the verdict of its checks and the images that it broke.

    `name` says whose they are.
    """
    try:
        found = [*problems(record), *(audit_problems(record, audit) if audit is not None else ())]
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ZeroDivisionError):
        found = ["its form is another"]
    if found:
        raise PromotionRefused(f"nothing is promoted, because numbers cannot be recomputed: {name}: "
                               f"{'; '.join(found)}; {EVALUATE}, then `parapet front`.")


def _changed(path: Path, chosen: dict[str, Any], name: str, what: str, again: str) -> bool:
    if not path.is_file():
        state = "is a folder and no file" if path.is_dir() else "does not exist"
        raise InputError(f"{path}, {what} of candidate {chosen['id']}, {state}; {again}.")
    expected: str = chosen["sha256"][name]
    return file_digest(path) != expected


def _differs(path: Path, chosen: dict[str, Any], name: str) -> str:
    return f"{file_digest(path)[:12]} instead of {chosen['sha256'][name][:12]}"


def _what_it_is(path: Path, expected: dict[str, Any]) -> str | None:
    """What an ONNX file is that is not the expected one; None where it looks like it."""
    from parapet.deployment.export import read_metadata
    from parapet.deployment.runtime import session

    try:
        session(path)
        genome = read_metadata(path).get("genome")
    except Exception as error:  # onnxruntime and protobuf raise kinds of their own
        if is_of_the_machine(error):
            raise
        return "it is damaged, and onnxruntime cannot load it"
    return None if genome == expected else f"it holds {_named(genome)}, and not {_named(expected)}"


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
                        f"{config.maximum_latency_ms:g}{doubt(chosen)}")
    return refusals


def doubt(chosen: dict[str, Any]) -> str:
    """What speaks against the latency of `chosen`, to follow it in a sentence; empty where nothing does."""
    noise = chosen["latency_ms"].get("noise") or {}
    return f" (timed while the machine was busy: {noise['reason']})" if noise.get("verdict") == "busy" else ""


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
