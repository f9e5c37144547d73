"""Robust accuracy and distances against the official AutoAttack and Foolbox: the same nets, images and budgets.

Every comparison is written to the results as soon as it is made, and one that is there already is not made again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.attacks import nets, peers
from benchmarks.attacks.replay import timed
from parapet.attacks import auto_attack, carlini_wagner, deepfool, square
from parapet.attacks.balls import distance
from parapet.attacks.inputs import predict
from parapet.data.dataset import Dataset
from parapet.disk.files import write_json
from parapet.intervals import wilson
from parapet.models import load

# What is to be reached: points above the official robust accuracy, of Square at equal queries, share of the distance.
ABOVE_OFFICIAL, ABOVE_SQUARE, LONGER = 0.002, 0.01, 0.01
# The official code leaves its ball by so much through rounding.
_SLACK = 1e-6
_SQUARE_QUERIES, _DECISIVE_IMAGES, _CW = 1000, 128, {"steps": 1000, "searches": 9}
_L2_EPS = 1.5

Comparison = Callable[[nn.Module, Tensor, Tensor], dict[str, Any]]


def standard(norm: str, eps: float) -> Comparison:
    """Standard AutoAttack, ours and the official one."""
    def compare(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Any]:
        ours_s, ours = timed(lambda: auto_attack(model, images, labels, eps=eps, norm=norm, generator=_generator()),
                             device=images.device)
        theirs_s, theirs = timed(lambda: peers.official("standard", norm, eps)(model, images, labels),
                                 device=images.device)
        return _accuracies(model, images, labels, ours, theirs, norm, eps, ABOVE_OFFICIAL,
                           {"ours_seconds": ours_s, "theirs_seconds": theirs_s})
    return compare


def square_alone(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Square with equal queries, ours and the official one."""
    ours = square(model, images, labels, eps=nets.EPS, queries=_SQUARE_QUERIES, early_stop=True,
                  generator=_generator())
    theirs = peers.official("square", "linf", nets.EPS, queries=_SQUARE_QUERIES)(model, images, labels)
    return _accuracies(model, images, labels, ours, theirs, "linf", nets.EPS, ABOVE_SQUARE,
                       {"queries": _SQUARE_QUERIES})


def deepfool_distance(norm: str) -> Comparison:
    """Median distance of DeepFool-50 over 10 classes, ours and Foolbox's."""
    name = {"linf": "LinfDeepFoolAttack", "l2": "L2DeepFoolAttack"}[norm]

    def compare(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Any]:
        ours, _ = deepfool(model, images, labels, norm=norm, steps=50, classes=10)
        theirs = peers.foolbox(name, steps=50, candidates=10)(model, images, labels)
        return _distances(model, images, labels, ours, theirs, norm)
    return compare


def carlini_wagner_distance(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Median L2 distance of Carlini and Wagner's attack, ours and Foolbox's, on the first images."""
    part = slice(_DECISIVE_IMAGES)
    ours, _ = carlini_wagner(model, images[part], labels[part], **_CW)
    theirs = peers.foolbox("L2CarliniWagnerAttack", steps=_CW["steps"], binary_search_steps=_CW["searches"])(
        model, images[part], labels[part])
    # Where Foolbox finds nothing it hands back a black image, which most nets get wrong: that is no success.
    nothing = theirs.flatten(1).amax(1) == 0
    theirs = torch.where(nothing.reshape(-1, 1, 1, 1), images[part], theirs)
    return {**_CW, **_distances(model, images[part], labels[part], ours, theirs, "l2")}


COMPARISONS: dict[str, Comparison] = {
    "standard AutoAttack": standard("linf", nets.EPS), "Square": square_alone,
    "DeepFool L-inf": deepfool_distance("linf"), "DeepFool L2": deepfool_distance("l2"),
    "C&W L2": carlini_wagner_distance}
# A second norm on one net; it takes as long as the first.
L2_NET, L2_COMPARISON = "pgd", "standard AutoAttack L2"


def run(folder: Path, names: list[str], count: int, device: str, commits: dict[str, str], hardware: str,
        results: Path) -> None:
    """Compare on the first `count` test images with each net `names` of `folder`; print a table, keep the records."""
    images, labels = Dataset.open(folder / "dataset").split("test", device, count).all()
    drawn = Table(title=f"{count} MNIST test images, L-inf {nets.EPS:g} (L2 {_L2_EPS:g}), seed 0; {hardware}",
                  title_justify="left")
    for heading in ("net", "comparison", "ours", "theirs", "difference", "only ours breaks", "only theirs", "to reach"):
        drawn.add_column(heading)
    for name in names:
        path = results / f"agreement-{name}-{count}.json"
        setting = {"net": json.loads((folder / f"{name}.json").read_text()), "n": count, "seed": 0, "peers": commits}
        known = json.loads(path.read_text()) if path.exists() else {}
        record = known if {key: known.get(key) for key in setting} == setting else {**setting, "comparisons": {}}
        record["hardware"] = hardware
        model = load(folder / f"{name}.safetensors", device)
        todo = dict(COMPARISONS)
        if name == L2_NET:
            todo[L2_COMPARISON] = standard("l2", _L2_EPS)
        for title, compare in todo.items():
            if title not in record["comparisons"]:
                seconds, found = timed(compare, model, images, labels, device=images.device)
                record["comparisons"][title] = {**found, "seconds": seconds}
                write_json(path, record)
                print(f"{name}, {title}: {record['comparisons'][title]}", flush=True)
            drawn.add_row(*_row(name, title, record["comparisons"][title]))
    Console(width=160).print(drawn)


def _row(name: str, title: str, found: dict[str, Any]) -> tuple[str, ...]:
    if "ours_robust" in found:
        low, high = found["interval"]
        return (name, title, f"{found['ours_robust']:.1%} ({low:.1%} to {high:.1%})", f"{found['theirs_robust']:.1%}",
                f"{100 * found['above']:+.1f} points", str(found["only_ours_breaks"]), str(found["only_theirs_breaks"]),
                "met" if found["met"] else f"at most {100 * found['allowed']:g} points above")
    ours, theirs = ("none" if found[key] is None else f"{found[key]:.4f}" for key in ("ours_median", "theirs_median"))
    return (name, title, ours, theirs, "" if found["longer"] is None else f"{found['longer']:+.2%}",
            f"both found {found['both_found']}", f"of {found['n']}",
            "met" if found["met"] else f"at most {found['allowed']:.0%} longer")


def _accuracies(model: nn.Module, images: Tensor, labels: Tensor, ours: Tensor, theirs: Tensor, norm: str, eps: float,
                allowed: float, more: dict[str, Any]) -> dict[str, Any]:
    stands = [(predict(model, points) == labels) | (distance(points, images, norm) > eps + _SLACK)
              for points in (ours, theirs)]
    counts = [int(outcome.sum()) for outcome in stands]
    n = len(labels)
    return {"clean": float((predict(model, images) == labels).float().mean()), "norm": norm, "eps": eps,
            "ours_robust": counts[0] / n, "theirs_robust": counts[1] / n, "interval": list(wilson(counts[0], n)),
            "above": (counts[0] - counts[1]) / n, "only_ours_breaks": int((~stands[0] & stands[1]).sum()),
            "only_theirs_breaks": int((stands[0] & ~stands[1]).sum()), "allowed": allowed,
            "met": counts[0] - counts[1] <= allowed * n + 1e-9, **more}


def _distances(model: nn.Module, images: Tensor, labels: Tensor, ours: Tensor, theirs: Tensor,
               norm: str) -> dict[str, Any]:
    """Medians over the images that the model gets right, infinite where nothing was found."""
    right = predict(model, images) == labels
    lengths = []
    for points in (ours, theirs):
        found = predict(model, points) != labels
        lengths.append(torch.where(found, distance(points, images, norm), torch.inf)[right])
    medians = [float(each.median()) for each in lengths]
    # JSON has no infinity: None is the median where most images withstood.
    ours_median, theirs_median = (median if math.isfinite(median) else None for median in medians)
    longer = medians[0] / medians[1] - 1 if math.isfinite(medians[0]) else None
    return {"norm": norm, "n": int(right.sum()), "ours_median": ours_median, "theirs_median": theirs_median,
            "both_found": int((lengths[0].isfinite() & lengths[1].isfinite()).sum()),
            "ours_found": int(lengths[0].isfinite().sum()), "theirs_found": int(lengths[1].isfinite().sum()),
            "longer": longer, "allowed": LONGER,
            "met": theirs_median is None or (longer is not None and longer <= LONGER)}


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
