"""Made-up searches of any size, valid against the schemas: an archive, a front with its evaluations, and images."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from parapet import schemas
from parapet.config import ReportConfig
from parapet.data.sources import Source
from parapet.disk import sealed
from parapet.disk.files import write_json
from parapet.intervals import wilson
from parapet.search.front import hypervolume_curve
from parapet.search.network_space import SearchSpace
from parapet.store import archive, search_folder
from parapet.store.records import Record

_VALIDATION, _TEST, _EPS = 288, 360, 0.2
_ALONE = {"fgsm": 0.12, "pgd_ce": 0.05, "pgd_margin": 0.04, "deepfool": 0.07}
_LEFT = {"apgd_ce": 0.03, "apgd_t": 0.012, "fab_t": 0.01, "square": 0.005, "audit": 0.0}
_MACHINE = "x86_64 Linux, Intel(R) Xeon(R) CPU @ 2.20GHz, 2 cores"
_CHECKS = ("deterministic", "same_in_any_batch", "gradients", "scale", "uphill", "one_step", "margin", "steps",
           "restarts", "radius", "noise", "black_box", "hop_skip_jump", "transfer")
_FINGERPRINT, _SEARCH = hashlib.sha256(b"data").hexdigest(), "0" * 12
_IDEAL, _REFERENCE = [0.0, 0.0, 3.0], [1.0, 1.0, 10.0]


def record(number: int, *, population: int = 100) -> dict[str, Any]:
    """The archive record of candidate `number`: the same for the same number."""
    generator = np.random.default_rng(number)
    space = SearchSpace()
    genome = space.decode(generator.integers(0, space.upper + 1))
    key = hashlib.sha256(f"candidate {number}".encode()).hexdigest()
    flops = int(10 ** generator.uniform(4.2, 7.5))
    robust = 0.15 + 0.15 * (math.log10(flops) - 4) + generator.normal(0, 0.05)
    return {
        "schema_version": archive.SCHEMA_VERSION, "id": key[:12], "training_key": key,
        "evaluation_key": hashlib.sha256(key.encode()).hexdigest(), "genome": genome.to_dict(),
        "generation": 1 + number // population, "seed": int(generator.integers(0, 2**62)), "status": "feasible",
        "fidelity": {"rung": 0, "full": True, "epochs": 24, "data_share": 1.0, "crafting": "own"}, "parent": None,
        "repeat": 0, "looks": 1, "final": False, "reason": None, "violation": 0.0,
        "validation": _block(generator, _VALIDATION, 0.95 - 0.3 * robust, robust, {"fgsm": 0.1, "pgd_ce": 0.03,
                                                                                  "pgd_margin": 0.0}, {"audit": 0.0}),
        "audit": {"verdict": "warn", "reasons": ["steps: more steps break another 0.4 % of the images"]},
        "flops": flops, "params": flops // 6, "training_seconds": 2.0 + flops / 1e5, "training_flops": flops * 10_000,
        "latency_ms": {"p50": 0.02 + flops / 6e6, "p90": 0.03 + flops / 5e6, "p99": 0.04 + flops / 4e6,
                       "mean": 0.021 + flops / 6e6, "runs": 4210, "batch": 1, "threads": 1, "machine": _MACHINE,
                       "onnxruntime": "1.31.1", "providers": ["CPUExecutionProvider"], "stable": True,
                       "throughput": {"batch": 256, "images_per_second": 2e5},
                       "noise": {"verdict": "quiet", "others": 0.0, "drift": 0.01, "reason": None}}}


def write_archive(path: Path, count: int) -> None:
    """An archive of `count` candidates; every hundredth is infeasible."""
    def made(number: int) -> dict[str, Any]:
        found = record(number)
        if number % 100 == 99:
            found |= {"status": "infeasible", "reason": "the loss became NaN in epoch 3 of 24", "validation": None,
                      "audit": None, "latency_ms": None}
        return found
    for start in range(0, count, 10_000):
        archive.append(path, map(made, range(start, min(count, start + 10_000))))


def write_artifacts(out: Path, *, members: int, candidates: int, image_shape: tuple[int, int, int] = (3, 32, 32),
                    images: int | None = None) -> None:
    """What `parapet report` reads, in folder `out`: a front of `members` over an archive of `candidates`."""
    search = out / "search"
    write_archive(search / "archive.jsonl", candidates)
    own = [record(number) for number in range(members) if number % 100 != 99]
    own += [record(candidates + number) for number in range(members - len(own))]
    undefended = record(candidates + members)
    undefended["genome"] |= {"loss": "standard", "clean_share": 0.0, "trades_beta": 0.0, "eps_ratio": 0.0, "steps": 1}
    entries = [_entry(one) for one in own]
    write_json(search / "front_ids.json", {"schema_version": 1, "search_id": _SEARCH,
                                           "ids": [entry["id"] for entry in entries]})
    search_folder.seal(search, _SEARCH, _FINGERPRINT)
    alone = _entry(undefended)
    _write_evaluations(out, [alone, *entries], ReportConfig().images if images is None else images, image_shape)
    front = {
        "schema_version": 7, "threat": {"norm": "linf", "eps": _EPS},
        "data": {"name": "cifar10", "fingerprint": _FINGERPRINT,
                 "classes": [f"class {number}" for number in range(10)], "image_shape": list(image_shape),
                 "images": {"train": 1149, "validation": _VALIDATION, "test": _TEST}},
        "search": {"id": _SEARCH, "sha256": search_folder.SearchFolder(search).checksum, "seed": 0,
                   "population": 100, "generations": 1 + candidates // 100,
                   "objectives": ["clean_error", "robust_error", "flops"], "evaluated": candidates,
                   "infeasible": candidates // 100, "training_seconds": 8124.4, "ideal": _IDEAL,
                   "reference": _REFERENCE, "hypervolume": hypervolume_curve(
                       [Record.from_json(one) for one in own], _IDEAL, _REFERENCE)},
        "mlflow": {"tracking_uri": "sqlite:///mlflow.db", "experiment_id": "1", "parent_run_id": "f" * 32},
        "undefended": alone, "candidates": entries, "variants": [_variant(entry) for entry in entries]}
    schemas.validate("front", sealed.write(out / "front.json", front))


def _write_evaluations(out: Path, entries: list[dict[str, Any]], images: int,
                       image_shape: tuple[int, int, int]) -> None:
    """The evaluation of each with its images; their digests go into the entries."""
    (out / "evaluation").mkdir()
    for number, entry in enumerate(entries):
        path = out / entry["evaluation"]
        _write_images(path.with_suffix(".safetensors"), number, images, image_shape)
        evaluation = sealed.write(path, {**_evaluation(entry),
                                         "digests": sealed.digests(path.parent, [f"{entry['id']}.safetensors"])})
        if number == 0:
            schemas.validate("evaluation", evaluation)
        entry["sha256"]["evaluation"] = evaluation[sealed.CHECKSUM]


def source(count: int, image_shape: tuple[int, int, int] = (3, 32, 32)) -> Source:
    """`count` images in ten classes, of noise, and a tenth as many as the published test split."""
    generator = np.random.default_rng(0)
    held = count // 10
    return Source("made_up", _noise(generator, count - held, image_shape), _labels(generator, count - held),
                  _noise(generator, held, image_shape), _labels(generator, held), 255,
                  tuple(f"class {number}" for number in range(10)))


def _noise(generator: np.random.Generator, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    images = np.empty((count, *shape), np.uint8)
    for start in range(0, count, 4096):
        part = images[start:start + 4096]
        part[...] = generator.integers(0, 256, part.shape, dtype=np.uint8)
    return images


def _labels(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.integers(0, 10, count)


def _block(generator: np.random.Generator, n: int, clean: float, robust: float, alone: dict[str, float],
           left: dict[str, float]) -> dict[str, Any]:
    def counted(share: float) -> int:
        return round(n * min(max(share, 0.0), 1.0))
    right, standing = counted(clean), min(counted(clean), counted(robust))
    shares = {name: min(right, counted(robust + more * generator.uniform(0.8, 1.2))) / n
              for name, more in (alone | left).items()}
    return {"n": n, "clean_accuracy": right / n, "clean_interval": list(wilson(right, n)),
            "robust_accuracy": standing / n, "robust_interval": list(wilson(standing, n)),
            "attacks": {name: {"alone": None, "left": share} if name in left else {"alone": share, "left": None}
                        for name, share in shares.items()}}


def _entry(one: dict[str, Any]) -> dict[str, Any]:
    generator, name = np.random.default_rng(one["flops"]), one["id"]
    kept = ("id", "genome", "generation", "seed", "validation", "audit", "flops", "params", "training_seconds",
            "training_flops", "latency_ms")
    validation = one["validation"]
    return {
        **{key: one[key] for key in kept}, "description": f"made up {one['genome']['backbone']} "
        f"{one['genome']['width']}x{one['genome']['depth']} {one['genome']['loss']}",
        "test": _block(generator, _TEST, validation["clean_accuracy"], validation["robust_accuracy"] - 0.01, _ALONE,
                       _LEFT),
        "weights": f"search/candidates/{name}/model.safetensors", "onnx": f"onnx/{name}.onnx",
        "evaluation": f"evaluation/{name}.json", "mlflow_run_id": hashlib.sha256(name.encode()).hexdigest()[:32],
        "derived_from": None, "seeds": None, "ties": [], "note": None,
        "footprint": {"bytes": one["flops"] // 5, "peak_memory_bytes": 60_000_000, "runtime_memory_bytes": 55_000_000,
                      "batch": 1},
        "onnx_parity": {"verdict": "held", "label_agreement": 1.0, "robust_difference": 0.0, "reason": None},
        "sha256": {"weights": "a" * 64, "onnx": "b" * 64}}


def _variant(entry: dict[str, Any]) -> dict[str, Any]:
    generator, name = np.random.default_rng(entry["params"]), f"{entry['id']}-int8"
    blocks = {split: _block(generator, n, entry[split]["clean_accuracy"], entry[split]["robust_accuracy"] + 0.05,
                            {"transfer": 0.02, "square": 0.01}, {})
              for split, n in (("validation", _VALIDATION), ("test", _TEST))}
    return {**entry, **blocks, "id": name, "derived_from": entry["id"], "mlflow_run_id": None, "onnx_parity": None,
            "description": entry["description"] + ", INT8", "onnx": f"onnx/{name}.onnx",
            "note": "INT8: its robust accuracy is an upper bound."}


def _evaluation(entry: dict[str, Any]) -> dict[str, Any]:
    test = entry["test"]
    slope = math.log(test["clean_accuracy"] / max(test["robust_accuracy"], 1e-3)) / _EPS**1.6
    radii, steps = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5], [1, 2, 5, 10, 20, 50, 100]
    attacks = {name: {**shares, "interval": list(wilson(round(_TEST * max(filter(None, shares.values()), default=0)),
                                                        _TEST)),
                      "seconds": 1.5, "gradient_evaluations": 18_000, "queries": 0, "attacked": 300,
                      "median_distance": 0.231 if name == "deepfool" else None}
               for name, shares in test["attacks"].items()}
    rows = dict.fromkeys(("clean", *attacks), "01" * (_TEST // 2))
    return {"schema_version": 5, "id": entry["id"], "key": "k" * 64, "status": "done", "reason": None, "split": "test",
            "fingerprint": _FINGERPRINT, "genome": entry["genome"],
            "evaluation": {"schema_version": 3, "threat": {"norm": "linf", "eps": _EPS}, "outcomes": rows,
                           "seconds": 14.2, **{key: test[key] for key in test if key != "attacks"}, "attacks": attacks},
            "audit": {"verdict": entry["audit"]["verdict"], "survived": "10" * 50, "seconds": 7.5, "checks": [
                {"id": name, "verdict": "pass", "numbers": {"share": 0.0028, "gap": 0.014, "accuracy": [0.8, 0.7, 0.6]},
                 "advice": "" if number else "Raise the steps and restarts of the white-box attacks."}
                for number, name in enumerate(_CHECKS)]},
            "curves": {"eps": radii, "accuracy": [test["clean_accuracy"] * math.exp(-slope * radius**1.6)
                                                  for radius in radii],
                       "steps": steps, "loss": [-3.0, -2.1, -1.0, -0.4, -0.2, -0.1, -0.1],
                       "steps_accuracy": [0.9, 0.85, 0.8, 0.75, 0.72, 0.7, 0.7]},
            "onnx": {"clean_accuracy": test["clean_accuracy"], "robust_accuracy": test["robust_accuracy"],
                     "label_agreement": 1.0, "robust_difference": 0.0, "ties": 0, "parity": "held", "reason": None},
            "int8": None, "files": {kind: entry["sha256"][kind] for kind in ("weights", "onnx")},
            "images": f"{entry['id']}.safetensors",
            "confusion": {name: [[4] * 10] * 10 for name in ("clean", "adversarial")}}


def _write_images(path: Path, number: int, count: int, shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(number)
    clean = generator.random((count, *shape), np.float32)
    save_file({"clean": clean, "adversarial": np.clip(clean + _EPS * np.sign(generator.normal(size=clean.shape)), 0, 1)
               .astype(np.float32), "labels": np.arange(count), "predictions_clean": np.arange(count),
               "predictions_adversarial": (np.arange(count) + 1) % 10}, path)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*")
                                                          if one.is_file())
