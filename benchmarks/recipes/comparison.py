"""Train each recipe with each seed, attack every model, and say what lies between recipes beyond the seeds' noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from scipy import stats

from parapet.config import DataPrepConfig
from parapet.data import dataset, sources, splits
from parapet.errors import InputError
from parapet.steps import attack, train
from parapet.training.recipes import NamedRecipe

_VALIDATION_SHARE, _SPLIT_SEED = 0.05, 0
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Setting:
    """What all models of a comparison share; `train_images` and `test_images` limit the published splits.

    Data and models of each pair of limits have a folder of their own below `out`.
    """

    data: Path
    out: Path
    train_images: int | None = None
    test_images: int | None = None
    suite: str = "standard"
    also: tuple[str, ...] = ()
    audit_images: int = 0
    device: str = "cpu"
    batch_size: int = 256

    @property
    def folder(self) -> Path:
        """Where the data and the models of these limits are."""
        return self.out / f"{self.train_images or 'all'}-{self.test_images or 'all'}"


def prepare(recipes: Sequence[NamedRecipe], setting: Setting) -> Path:
    """The folder of prepared data, with a stratified part of the published images where they are limited.

    Raises InputError where recipes are for several data sets or share a name, or where `out` holds other data.
    """
    if len({recipe.name for recipe in recipes}) < len(recipes):
        raise InputError(f"two of the recipes {', '.join(recipe.name for recipe in recipes)} have one name; name files "
                         "differently.")
    names = sorted({recipe.data for recipe in recipes})
    if len(names) > 1:
        raise InputError(f"the recipes are for {', '.join(names)}; compare recipes for one data set.")
    config = DataPrepConfig(validation_share=_VALIDATION_SHARE, limit_train=setting.train_images,
                            limit_test=setting.test_images)
    folder = setting.folder / "dataset"
    if not folder.exists():
        source = sources.load(names[0], setting.data)
        dataset.write(folder, source, splits.split(source, config, _SPLIT_SEED))
    ready = dataset.Dataset.open(folder)
    if ready.name != names[0]:
        raise InputError(f"{folder} holds {ready.name}, and the recipes are for {names[0]}; give another folder with "
                         "--out.")
    return folder


def measure(recipe: NamedRecipe, seed: int, data: Path, setting: Setting,
            tell: Callable[[str], None] = print) -> dict[str, Any]:
    """One row: train `recipe` with `seed`, attack it; both go on where an earlier run was stopped."""
    folder = setting.folder / f"{recipe.name}-{seed}"

    class Lines(train.Watcher):
        def finished_epoch(self, row: dict[str, Any]) -> None:
            tell(f"{recipe.name}, seed {seed}: epoch {row['epoch']}/{row['epochs']}, loss {row['loss']:.3f}, "
                 f"robust {row.get('validation_robust_accuracy', math.nan):.1%}, "
                 f"{row['images_per_second']:,.0f} images/s")
    trained = train.run(recipe, data, folder, seed=seed, device=setting.device, watcher=Lines())
    request = attack.Request(model=str(folder / "model.safetensors"), data=data, eps=recipe.threat.eps,
                             norm=recipe.threat.norm, suite=setting.suite, also=setting.also,
                             batch_size=setting.batch_size, device=setting.device,
                             audit_images=setting.audit_images)
    found = attack.run(request, folder / "attack")
    record = found["evaluation"]
    tell(f"{recipe.name}, seed {seed}: clean {record['clean_accuracy']:.1%}, robust {record['robust_accuracy']:.1%}")
    return {"recipe": recipe.name, "seed": seed, "n": record["n"], "norm": recipe.threat.norm,
            "eps": recipe.threat.eps, "clean": record["clean_accuracy"], "robust": record["robust_accuracy"],
            "interval": record["robust_interval"], "audit": found["audit"] and found["audit"]["verdict"],
            "attacks": {name: {"alone": entry["alone"], "left": entry["left"]}
                        for name, entry in record["attacks"].items()},
            "flops": trained["flops"], "training_images": trained["training_images"],
            "training_seconds": trained["seconds"], "attack_seconds": record["seconds"]}


def table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """A line a model: accuracies in percent, the interval of the robust one, FLOPs, seconds."""
    drawn = Table(title=title, title_justify="left")
    for heading in ("recipe", "seed", "clean", "robust", "95 % interval", "audit", "MFLOPs", "training s", "attack s"):
        drawn.add_column(heading, justify="left" if heading in ("recipe", "audit") else "right")
    for row in rows:
        low, high = row["interval"]
        drawn.add_row(row["recipe"], str(row["seed"]), f"{row['clean']:.1%}", f"{row['robust']:.1%}",
                      f"{low:.1%} to {high:.1%}", row["audit"] or "not audited", f"{row['flops'] / 1e6:.1f}",
                      f"{row['training_seconds']:.0f}", f"{row['attack_seconds']:.0f}")
    return drawn


def differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each recipe has over the first named one, for "clean" and "robust": a pair a seed.

    Mean difference and its 95 % interval by Student's t over the seeds (None with one seed).
    """
    found = []
    baseline = rows[0]["recipe"]
    for other in dict.fromkeys(row["recipe"] for row in rows if row["recipe"] != baseline):
        for what in ("clean", "robust"):
            of = {name: {row["seed"]: row[what] for row in rows if row["recipe"] == name}
                  for name in (baseline, other)}
            pairs = [of[other][seed] - of[baseline][seed] for seed in of[baseline] if seed in of[other]]
            if pairs:
                found.append({"recipe": other, "against": baseline, "what": what, "differences": pairs,
                              "mean": statistics.fmean(pairs), "interval": _interval(pairs)})
    return found


def sentence(difference: dict[str, Any]) -> str:
    """A difference in words."""
    count, interval = len(difference["differences"]), difference["interval"]
    between = f"{difference['recipe']} less {difference['against']}, {difference['what']} accuracy"
    mean = f"{100 * difference['mean']:+.1f} points over {count} seed{'s' if count > 1 else ''}"
    if interval is None:
        return f"{between}: {mean}; one seed has no interval"
    low, high = (100 * bound for bound in interval)
    told = "no difference is shown" if low <= 0 <= high else "the seeds agree on it"
    return f"{between}: {mean} (95 % interval {low:+.1f} to {high:+.1f}: {told})"


def _interval(pairs: Sequence[float]) -> tuple[float, float] | None:
    if len(pairs) < 2:
        return None
    half = stats.t.ppf((1 + _CONFIDENCE) / 2, len(pairs) - 1) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return statistics.fmean(pairs) - half, statistics.fmean(pairs) + half
