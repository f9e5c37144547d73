"""The gate that a model has to pass before it becomes champion: its files must be those that were measured, and its
numbers must meet the bounds of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parapet.config import Params
from parapet.disk.files import file_digest, read_json
from parapet.errors import InputError, PromotionRefused, is_of_the_machine
from parapet.genome import Genome
from parapet.store import results
from parapet.store.consistency import audit_problems, problems
from parapet.store.front_file import EVALUATE


def check_files(chosen: dict[str, Any], out: Path) -> None:
    """Raise InputError unless the ONNX file and the weights of `chosen`, an entry of `out`/front.json, are the
    files that were attacked, and the record of its training lies beside the weights.

    Digests show that a file was changed. For an ONNX file the message also says how: it is damaged if onnxruntime
    cannot load it, and it is another candidate's if it holds another genome.
    """
    onnx, weights, whose = out / chosen["onnx"], out / chosen["weights"], f"candidate {chosen['id']}"
    own = weights.parent / results.ONNX
    again = "run `parapet front` again, which copies the file that was measured"
    if why := _difference(onnx, chosen, "onnx", "the graph", again):
        why = _what_it_is(onnx, chosen["genome"]) or why
        raise InputError(f"{onnx} is not the graph that was measured for {whose}: {why}; {again}.")
    again = "bring it back with `dvc checkout`, or run `parapet search` and what follows again"
    if why := _difference(weights, chosen, "weights", "the weights", again):
        raise InputError(f"{weights} does not hold the weights that were attacked for {whose}: {why}; {again}.")
    if why := _difference(own, chosen, "onnx", "the graph", again):
        raise InputError(f"{own} is not the graph that was measured for {whose}, which {onnx} is: {why}; {again}.")
    training = weights.parent / results.TRAINING
    try:
        record = read_json(training)
        complete = record["id"] == chosen["id"] and {"key", "fingerprint"} <= record.keys()
    except (OSError, ValueError, TypeError, KeyError):
        complete = False
    if not complete:
        raise InputError(f"{training}, the record of the training of {whose}, is missing, damaged or another one's; "
                         f"{again}.")


def check_front(out: Path, chosen: dict[str, Any], evaluation: dict[str, Any]) -> None:
    """Raise PromotionRefused where the numbers of `chosen`, an entry of `out`/front.json, or of the `evaluation` it was
    made from, do not follow from the outcomes that were recorded for each image."""
    record, told = evaluation["evaluation"], chosen["test"]
    check_numbers(str(out / chosen["evaluation"]), record, evaluation["audit"])
    shown = {name: {**record["attacks"].get(name, {}), **shares} for name, shares in told["attacks"].items()}
    check_numbers(f"candidate {chosen['id']} in {out / 'front.json'}", {**record, **told, "attacks": shown})


def check_numbers(name: str, record: dict[str, Any], audit: dict[str, Any] | None = None) -> None:
    """Raise PromotionRefused unless the accuracies and intervals of a suite's `record` follow from its outcomes, and
    the verdict of the `audit` beside it from its checks and from the images that it broke.

    `name` says in the message whose numbers they are.
    """
    try:
        found = [*problems(record), *(audit_problems(record, audit) if audit is not None else ())]
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ZeroDivisionError):
        found = ["its form is another"]
    if found:
        raise PromotionRefused(f"nothing is promoted, because numbers cannot be recomputed: {name}: "
                               f"{'; '.join(found)}; {EVALUATE}, then `parapet front`.")


def _difference(path: Path, chosen: dict[str, Any], name: str, what: str, again: str) -> str | None:
    """How a file's digest differs from the one in front.json, None where it does not. InputError for a missing file."""
    if not path.is_file():
        state = "is a folder and no file" if path.is_dir() else "does not exist"
        raise InputError(f"{path}, {what} of candidate {chosen['id']}, {state}; {again}.")
    found, expected = file_digest(path), chosen["sha256"][name]
    return None if found == expected else f"its SHA-256 is {found[:12]} instead of {expected[:12]}"


def _what_it_is(path: Path, expected: dict[str, Any]) -> str | None:
    """How an ONNX file differs from the expected one, in words; None where it holds the expected genome."""
    from parapet.deployment.export import read_metadata
    from parapet.deployment.runtime import session

    try:
        session(path)
        genome = read_metadata(path).get("genome")
    except Exception as error:  # onnxruntime and protobuf raise their own classes
        if is_of_the_machine(error):
            raise
        return "it is damaged, and onnxruntime cannot load it"
    return None if genome == expected else f"it holds {_named(genome)}, and not {_named(expected)}"


def gate(chosen: dict[str, Any], params: Params) -> list[str]:
    """Every bound that `chosen`, an entry of front.json, does not meet, as a sentence; empty if there is none.

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
    """Why the latency of `chosen` may be wrong, to be appended to a sentence; empty where there is no reason."""
    noise = chosen["latency_ms"].get("noise") or {}
    return f" (timed while the machine was busy: {noise['reason']})" if noise.get("verdict") == "busy" else ""


def parity(chosen: dict[str, Any]) -> list[str]:
    """Why the ONNX graph of `chosen` may differ from the network that was attacked; empty where parity held."""
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
