"""The rapid version of AutoAttack against the official standard one: the same nets and images, one after the other.

Every comparison is written to the results as soon as it is made, and one that is there already is not made again. The
official attack goes through the images in pieces, and each is kept beside the nets, so that its hours go on from disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.attacks import nets, peers
from benchmarks.attacks.replay import timed
from parapet.attacks import adapted, auto_attack
from parapet.attacks.balls import distance
from parapet.attacks.inputs import predict
from parapet.disk.files import file_digest, write_json
from parapet.intervals import wilson
from parapet.versions import ATTACK_VERSION

# Of each data set: norm, radius, and how many test images.
THREATS = {"mnist": (("linf", 0.3, 1000), ("l2", 1.5, 1000)),
           "cifar10": (("linf", 8 / 255, 250), ("l2", 0.5, 250))}
# What is to be reached: points above the official one over all and on one net, and the share of its time.
ABOVE_ALL, ABOVE_ONE, TIME = 0.001, 0.005, 1 / 8
# The official code leaves its ball by so much through rounding.
_SLACK = 1e-6
# Images that the official attack is given at once; it takes them in batches of 256 itself.
_PIECE = 250


def run(folder: Path, names: Sequence[str], commits: dict[str, str], hardware: str, results: Path,
        count: int | None = None, again: bool = False) -> None:
    """Compare on every net of `names` whose weights are in `folder`; print a table, keep the records in `results`.

    With `again` what was compared is compared anew, as after a change of the rapid version.
    """
    found = []
    for name, prepared, model in nets.trained(folder, names):
        for norm, eps, n in THREATS[nets.NETS[name].data]:
            images, labels = prepared.split("test", limit=min(n, count or n)).all()
            path = results / f"rapid-{name}-{norm}-{len(images)}.json"
            setting = {"net": name, "norm": norm, "eps": eps, "n": len(images), "seed": 0, "peers": commits}
            known = json.loads(path.read_text()) if path.exists() else {}
            if again or {key: known.get(key) for key in setting} != setting:
                weights = file_digest(folder / f"{name}.safetensors")
                pieces = Pieces(folder / f"{path.stem}.pieces", {**setting, "weights": weights})
                known = {**setting, **_compare(model, images, labels, norm, eps, pieces),
                         "weights": weights, "attack_version": ATTACK_VERSION, "threads": torch.get_num_threads(),
                         "hardware": hardware}
                write_json(path, known)
                pieces.path.unlink()
                print(f"{name} {norm}: {known['ours_robust']:.1%} in {known['ours_seconds']:.1f} s, official "
                      f"{known['theirs_robust']:.1%} in {known['theirs_seconds']:.1f} s", flush=True)
            found.append(known)
    Console(width=150).print(table(found))


class Pieces:
    """What the official attack did so far under one setting: {stands, seconds} of each piece, kept in a file."""

    def __init__(self, path: Path, setting: dict[str, Any]) -> None:
        self.path, self.setting = path, setting
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.done: list[dict[str, Any]] = kept["pieces"] if kept.get("setting") == setting else []

    def add(self, stands: Tensor, seconds: float) -> None:
        """Keep a piece: which of its images still stand, and how long it took."""
        self.done.append({"stands": stands.tolist(), "seconds": seconds})
        write_json(self.path, {"setting": self.setting, "pieces": self.done})


def _compare(model: nn.Module, images: Tensor, labels: Tensor, norm: str, eps: float, pieces: Pieces) -> dict[str, Any]:
    def stands(points: Tensor, rows: slice) -> Tensor:
        outside = distance(points, images[rows], norm) > eps + _SLACK
        return (predict(model, points) == labels[rows]) | outside

    generator = torch.Generator().manual_seed(0)
    ours_seconds, points = timed(lambda: auto_attack(model, images, labels, eps=eps, norm=norm, version="rapid",
                                                     generator=generator), device=images.device)
    ours = stands(points, slice(None))
    attacked = adapted(model)  # the official code knows nothing of layers that declare how they have to be attacked
    official = peers.official("standard", norm, eps)
    for first in range(len(pieces.done) * _PIECE, len(images), _PIECE):
        rows = slice(first, first + _PIECE)
        seconds, points = timed(official, attacked, images[rows], labels[rows], device=images.device)
        pieces.add(stands(points, rows), seconds)
    theirs = torch.tensor([stood for piece in pieces.done for stood in piece["stands"]])
    counts, n = [int(ours.sum()), int(theirs.sum())], len(labels)
    return {"clean": float((predict(model, images) == labels).double().mean()), "ours_robust": counts[0] / n,
            "theirs_robust": counts[1] / n, "interval": list(wilson(counts[0], n)),
            "only_ours_breaks": int((~ours & theirs).sum()), "only_theirs_breaks": int((ours & ~theirs).sum()),
            "ours_seconds": ours_seconds, "theirs_seconds": sum(piece["seconds"] for piece in pieces.done)}


def table(found: Sequence[dict[str, Any]]) -> Table:
    """A row for each comparison, and one for all of them together."""
    drawn = Table(title="AutoAttack, rapid against the official standard version; seed 0", title_justify="left")
    for heading in ("net", "threat", "n", "clean", "rapid", "official", "difference", "seconds", "official's",
                    "share of its time", "to reach"):
        drawn.add_column(heading)
    for one in found:
        above = one["ours_robust"] - one["theirs_robust"]
        low, high = one["interval"]
        drawn.add_row(one["net"], f"{one['norm']} {one['eps']:.3g}", str(one["n"]), f"{one['clean']:.1%}",
                      f"{one['ours_robust']:.1%} ({low:.1%} to {high:.1%})", f"{one['theirs_robust']:.1%}",
                      f"{100 * above:+.1f}", f"{one['ours_seconds']:.1f}", f"{one['theirs_seconds']:.1f}",
                      f"1/{one['theirs_seconds'] / one['ours_seconds']:.1f}", "met" if above <= ABOVE_ONE + 1e-9 else
                      f"at most {100 * ABOVE_ONE:g} points above")
    if found:
        n = sum(one["n"] for one in found)
        above = sum((one["ours_robust"] - one["theirs_robust"]) * one["n"] for one in found) / n
        ours, theirs = (sum(one[f"{who}_seconds"] for one in found) for who in ("ours", "theirs"))
        met = above <= ABOVE_ALL + 1e-9 and ours <= TIME * theirs
        drawn.add_section()
        drawn.add_row("all", "", str(n), "", "", "", f"{100 * above:+.2f}", f"{ours:.0f}", f"{theirs:.0f}",
                      f"1/{theirs / ours:.1f}", "met" if met else
                      f"at most {100 * ABOVE_ALL:g} points above in 1/{1 / TIME:g} of the time")
    return drawn
