"""A made-up search, valid against the schemas: front, evaluations, archive and images from one seed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from parapet import schemas
from parapet.report.images import AdversarialImages
from parapet.search.network_space import SearchSpace

ATTACKS = {"fgsm": 0.12, "deepfool": 0.07, "pgd": 0.05, "apgd_ce": 0.03, "square": 0.035, "apgd_t": 0.01,
           "fab_t": 0.012, "transfer": 0.04}
# Those that the suite lets meet survivors only; of a variant every attack meets every image.
AFTER_OTHERS = ("apgd_ce", "apgd_t", "fab_t", "square")
NETWORK, VARIANT = ("fgsm", "deepfool", "pgd", "apgd_ce", "apgd_t", "fab_t", "square"), ("transfer", "square")
MACHINE = "Intel(R) Xeon(R) CPU @ 2.80GHz, 2 cores"
VALIDATION, TEST = 288, 360


@dataclass
class Study:
    """What `render` takes."""

    front: dict[str, Any]
    evaluations: dict[str, dict[str, Any]]
    archive: list[dict[str, Any]]
    images: dict[str, AdversarialImages]


@pytest.fixture(scope="session")
def make_study():
    """The maker itself, for tests that want another size."""
    return study


@pytest.fixture
def made() -> Study:
    """A study with eight members, one variant, an archive with infeasible candidates, tracked in MLflow."""
    return study()


def study(members: int = 8, rest: int = 40, variants: int = 1, tracked: bool = True, seed: int = 0) -> Study:
    """A study whose candidates get more robust and less accurate as they get dearer, with noise."""
    random = np.random.default_rng(seed)
    own = [_candidate(random, index, 10 ** (4.2 + 2.0 * index / max(members - 1, 1)), tracked)
           for index in range(members)]
    undefended = _candidate(random, 1000, 2.1e5, tracked, clean=0.986, robust=0.014)
    undefended["genome"] |= {"loss": "standard", "clean_share": 0.0, "trades_beta": 0.0, "eps_ratio": 0.0, "steps": 1}
    derived = []
    for source in own[:variants]:
        name = f"{source['id']}-int8"
        blocks = {split: _block(source[split]["n"], source[split]["clean_accuracy"],
                                source[split]["robust_accuracy"] + 0.1, VARIANT, random, after_others=())
                  for split in ("validation", "test")}
        derived.append({**source, **blocks, "id": name, "derived_from": source["id"], "mlflow_run_id": None,
                        "description": source["description"] + ", INT8", "onnx": f"onnx/{name}.onnx",
                        "onnx_parity": None, "note": "INT8: its robust accuracy is an upper bound."})
    archive = [_record(random, candidate) for candidate in own]
    archive += [_record(random, _candidate(random, 2000 + index, 10 ** random.uniform(4.2, 6.2), tracked,
                                           handicap=random.uniform(0.02, 0.3))) for index in range(rest)]
    for record, reason in zip(archive[members:], ("the loss became NaN in epoch 3 of 24", "out of memory")):
        record.update(status="infeasible", reason=reason, validation=None, audit=None, latency_ms=None)
    volumes = [3.4 - 1.1 * math.exp(-0.7 * index) for index in range(5)]
    front = {
        "schema_version": 7, "checksum": "c" * 64, "threat": {"norm": "linf", "eps": 0.2},
        "data": {"name": "digits", "fingerprint": hashlib.sha256(b"digits").hexdigest(),
                 "classes": [str(digit) for digit in range(10)], "image_shape": [1, 8, 8],
                 "images": {"train": 1149, "validation": VALIDATION, "test": TEST}},
        "search": {"id": "s" * 12, "sha256": "d" * 64, "seed": 0, "population": 10, "generations": len(volumes),
                   "objectives": ["clean_error", "robust_error", "flops"], "evaluated": len(archive),
                   "infeasible": min(2, rest), "training_seconds": 812.4, "ideal": [0.0, 0.0, 3.0],
                   "reference": [1.0, 1.0, 10.0],
                   "hypervolume": [{"generation": index, "candidates": 10 * (index + 1),
                                    "training_seconds": 160.0 * (index + 1),
                                    "hypervolume": volume} for index, volume in enumerate(volumes)]},
        "mlflow": {"tracking_uri": "sqlite:///mlflow.db", "experiment_id": "1", "parent_run_id": "f" * 32}
                  if tracked else None,
        "undefended": undefended, "candidates": own, "variants": derived}
    evaluations = {candidate["id"]: _evaluation(random, candidate, front) for candidate in [*own, undefended]}
    images = {candidate["id"]: _images(random) for candidate in [*own, undefended]}
    schemas.validate("front", front)
    for record in archive:
        schemas.validate("archive_record", record)
    for evaluation in evaluations.values():
        schemas.validate("evaluation", evaluation)
    return Study(front, evaluations, archive, images)


def _candidate(random: np.random.Generator, number: int, flops: float, tracked: bool, clean: float | None = None,
               robust: float | None = None, handicap: float = 0.0) -> dict[str, Any]:
    space = SearchSpace()
    genome = space.decode(random.integers(0, space.upper + 1))
    name = hashlib.sha256(f"candidate {number}".encode()).hexdigest()[:12]
    cost = math.log10(flops)
    robust = robust if robust is not None else 0.36 + 0.36 * (1 - math.exp(-(cost - 4.0))) - handicap
    clean = clean if clean is not None else 0.975 - 0.05 * ((cost - 4.2) / 2) - handicap / 3 + random.normal(0, 0.01)
    verdict, reasons = ("pass", []) if number % 5 or number == 0 else (
        "warn", ["black_box: square beats white box by 1.4 points; the lower number is stored"])
    return {
        "id": name, "genome": genome.to_dict(), "description": str(genome), "generation": number % 5,
        "seed": number, "validation": _block(VALIDATION, clean, robust + 0.01, ("pgd", "deepfool", "fgsm"), random),
        "test": _block(TEST, clean, robust, NETWORK, random), "flops": int(flops), "params": int(flops / 6),
        "training_seconds": 9.0 + flops / 4e4, "training_flops": int(flops * 1149 * 24 * 12),
        "latency_ms": {"p50": 0.021 + flops / 6e6, "p90": 0.026 + flops / 5e6, "p99": 0.04 + flops / 4e6,
                       "mean": 0.023 + flops / 6e6, "runs": 4210, "batch": 1, "threads": 1, "machine": MACHINE,
                       "onnxruntime": "1.31.1", "providers": ["CPUExecutionProvider"], "stable": True,
                       "throughput": {"batch": 256, "images_per_second": 2e5},
                       "noise": {"verdict": "quiet", "others": 0.0, "drift": 0.01, "reason": None}},
        "audit": {"verdict": verdict, "reasons": reasons}, "weights": f"search/candidates/{name}/model.safetensors",
        "onnx": f"onnx/{name}.onnx", "evaluation": f"evaluation/{name}.json",
        "mlflow_run_id": hashlib.md5(name.encode()).hexdigest() if tracked else None, "derived_from": None,
        "seeds": None, "ties": [], "note": None,
        "footprint": {"bytes": int(flops / 5), "peak_memory_bytes": 60_000_000, "runtime_memory_bytes": 55_000_000,
                      "batch": 1},
        "onnx_parity": {"verdict": "held", "label_agreement": 1.0, "robust_difference": 0.0, "reason": None},
        "sha256": {"weights": "a" * 64, "onnx": "b" * 64, "evaluation": "e" * 64}}


def _block(n: int, clean: float, robust: float, attacks: Any, random: np.random.Generator,
           after_others: Any = AFTER_OTHERS) -> dict[str, Any]:
    clean, robust = (round(n * min(max(value, 0.0), 1.0)) / n for value in (clean, robust))
    under = {name: round(n * min(clean, robust + ATTACKS[name] * random.uniform(0.8, 1.2))) / n for name in attacks}
    kinds = {name: {"alone": None, "left": value} if name in after_others else {"alone": value, "left": None}
             for name, value in under.items()}
    return {"n": n, "clean_accuracy": clean, "clean_interval": wilson(clean, n), "robust_accuracy": robust,
            "robust_interval": wilson(robust, n), "attacks": kinds}


def wilson(share: float, n: int, z: float = 1.96) -> list[float]:
    """The 95 % score interval of a share of n."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [max(0.0, middle - half), min(1.0, middle + half)]


def _record(random: np.random.Generator, candidate: dict[str, Any]) -> dict[str, Any]:
    kept = ("id", "genome", "generation", "seed", "validation", "audit", "flops", "params", "training_seconds",
            "training_flops", "latency_ms")
    return {"schema_version": 5, "training_key": "t" * 64, "evaluation_key": "e" * 64, "status": "feasible",
            "reason": None, "violation": 0.0, "parent": None, "repeat": 0, "looks": 1, "final": False,
            "fidelity": {"rung": 0, "full": True, "epochs": 24, "data_share": 1.0, "crafting": "own"},
            **{key: candidate[key] for key in kept}}


def _evaluation(random: np.random.Generator, candidate: dict[str, Any], front: dict[str, Any]) -> dict[str, Any]:
    test, eps = candidate["test"], front["threat"]["eps"]
    slope = math.log(test["clean_accuracy"] / max(test["robust_accuracy"], 1e-3)) / eps**1.6
    radii = [0.0, eps / 4, eps / 2, 3 * eps / 4, eps, 1.5 * eps, 2 * eps, 0.5]
    checks = [("deterministic", "pass", {"passes": 3, "largest_change": 0.0}, ""),
              ("zero_gradients", "pass", {"share": 0.0028, "share_margin": 0.0}, ""),
              ("steps", "pass", {"accuracy": [0.83, 0.78, 0.74, 0.73, 0.73]}, ""),
              ("black_box", candidate["audit"]["verdict"], {"gap": 0.014, "p_value": 0.31},
               "Raise the steps and restarts of the white-box attacks."),
              ("radius_sweep", "pass", {"accuracy_at_half": 0.02, "monotone": True}, "")]
    return {"schema_version": 5, "checksum": "e" * 64, "digests": {}, "id": candidate["id"], "key": "k" * 64,
            "split": "test", "fingerprint": front["data"]["fingerprint"], "genome": candidate["genome"],
            "evaluation": {"schema_version": 3, "threat": front["threat"], "outcomes": {}, "seconds": 14.2,
                           **{key: test[key] for key in test if key != "attacks"},
                           "attacks": {name: {**kinds, "interval": wilson(max(filter(None, kinds.values())), TEST),
                                              "seconds": 1.5,
                                              "gradient_evaluations": 18_000, "queries": 0,
                                              "attacked": 350,
                                              "median_distance": 0.231 if name == "deepfool" else None}
                                       for name, kinds in test["attacks"].items()}},
            "audit": {"verdict": candidate["audit"]["verdict"],
                      "checks": [dict(zip(("id", "verdict", "numbers", "advice"), check)) for check in checks],
                      "survived": "10" * 50, "seconds": 7.5},
            "curves": {"eps": radii, "accuracy": [test["clean_accuracy"] * math.exp(-slope * radius**1.6)
                                                  for radius in radii],
                       "steps": [1, 2, 5, 10, 20, 50, 100], "loss": [-3.0, -2.1, -1.0, -0.4, -0.2, -0.1, -0.1],
                       "steps_accuracy": [0.9, 0.85, 0.8, 0.75, 0.72, 0.7, 0.7]},
            "onnx": {"clean_accuracy": test["clean_accuracy"], "robust_accuracy": test["robust_accuracy"],
                     "label_agreement": 1.0, "robust_difference": 0.0, "ties": 0, "parity": "held", "reason": None},
            "int8": None, "files": {name: candidate["sha256"][name] for name in ("weights", "onnx")},
            "images": f"evaluation/{candidate['id']}.npz"}


def _images(random: np.random.Generator, k: int = 8, shape: tuple[int, int, int] = (1, 8, 8)) -> AdversarialImages:
    clean = np.clip(random.normal(0.4, 0.35, (k, *shape)), 0, 1).astype(np.float32)
    adversarial = np.clip(clean + 0.2 * np.sign(random.normal(size=clean.shape)), 0, 1).astype(np.float32)
    labels = random.integers(0, 10, k)
    fooled = (labels + (random.random(k) < 0.4)) % 10
    return AdversarialImages(clean, adversarial, labels, labels.copy(), fooled, "apgd_t")
