"""`parapet train`: one model from a named recipe, a line an epoch."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from parapet.cli.arguments import pathname
from parapet.cli.numbers import LARGEST_SEED, MOST_THREADS, optional_whole, whole
from parapet.cli.tables import show
from parapet.devices import resolve
from parapet.disk.replacement import check_folder
from parapet.errors import InputError
from parapet.processes import child
from parapet.progress import Progress
from parapet.redaction import redacted
from parapet.report.wording import count, duration, percent, threat

if TYPE_CHECKING:
    from parapet.training.recipes import NamedRecipe

EXAMPLES = """examples:
  parapet train --list
  parapet train --recipe digits
  parapet train --recipe mnist --data data --out runs/mnist
  parapet train --recipe cifar10_fast --data artifacts/dataset --device cuda --set training.epochs=10
  parapet train --recipe my_recipe.yaml --data data --set threat.eps=4/255 --seed 1
"""
# Larger radii are written as decimals: 0.2, not 51/255.
_LARGEST_LEVEL = 32


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `parapet train` takes."""
    parser.add_argument("--recipe", metavar="NAME", help="a recipe that --list shows, or the path of a .yaml file")
    parser.add_argument("--list", action="store_true", help="show the recipes that come with Parapet")
    parser.add_argument("--data", type=pathname, metavar="DIR", help="folder of a prepared data set, or of downloaded "
                        "data in torchvision's layout (default: PARAPET_DATA, and for digits the built-in ones)")
    parser.add_argument("--out", type=pathname, default=Path("runs/train"), metavar="DIR", help="receives "
                        "model.safetensors and train.json, and the checkpoint until then (default: runs/train)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help="replace a "
                        "value of the recipe, for example training.epochs=3; may be given several times")
    parser.add_argument("--seed", default=0, help="default: 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--threads", metavar="N", help="CPU threads (default: all)")


def train(options: argparse.Namespace) -> None:
    """Train, then print the accuracies and the command that attacks the result; or show the recipes."""
    from parapet.training.recipes import load_recipe, names

    if options.list:
        show(_recipes([load_recipe(name) for name in names()]))
        return
    if options.recipe is None:
        raise InputError(f"--recipe is missing; give one of {', '.join(names())}, or the path of a .yaml file.")
    recipe = load_recipe(options.recipe, options.changes)
    check_folder(options.out)
    options.seed = whole("--seed", options.seed, 0, LARGEST_SEED)
    options.threads = optional_whole("--threads", options.threads, 1, MOST_THREADS)
    if recipe.training.gpus > 1:
        raise InputError(f"training.gpus is {recipe.training.gpus}, and `parapet train` trains on one device; several "
                         "cards train the candidates of a search. Leave training.gpus out here.")
    device = resolve(options.device, workers=1, threads=1)[0]
    _train(recipe, options, device)


def _train(recipe: NamedRecipe, options: argparse.Namespace, device: str) -> None:
    from parapet.steps import train as step
    from parapet.training.recipes.data import prepare

    step.check_before_data(recipe, options.out, options.seed)
    root = os.environ.get("PARAPET_DATA")
    data = prepare(recipe, options.data, [Path(root)] if root else [], options.out)
    print(f"{recipe.name}: {recipe.genome}; {threat(recipe.to_dict()['threat'])}; {redacted(str(data))} on {device}, "
          f"seed {options.seed}", flush=True)

    def tell(values: dict[str, Any]) -> None:
        """Print a line for each epoch, for a damaged file, and for a checkpoint."""
        if "damaged" in values:
            progress.note(f"{values['damaged']}; it is trained again")
        elif "epoch" in values:
            progress.note(epoch_line(values["epoch"], recipe.training.validation_steps))
        else:
            progress.note(f"resumes after epoch {values['goes_on']} of {recipe.training.epochs}")

    task = step.task(recipe, options.recipe, options.changes, data, options.out, seed=options.seed,
                     threads=options.threads)
    with Progress("train", recipe.training.epochs, "epochs") as progress:
        result = child.supervised(task, device, on_told=tell,
                                  on_progress=lambda text, done: progress.update(done, text))
        if progress.text == "starting":
            progress.note("finished before; nothing is trained again")
        progress.update(recipe.training.epochs, "done")
    print(_summary(result, options.out))


def epoch_line(row: dict[str, Any], steps: int) -> str:
    """`epoch 3/22  loss 0.412  clean 97.8 %  robust 88.1 % (PGD-5)  4,120 images/s`."""
    parts = [f"epoch {row['epoch']}/{row['epochs']}", f"loss {row['loss']:.3f}"]
    if "validation_clean_accuracy" in row:
        parts += [f"clean {percent(row['validation_clean_accuracy'])}",
                  f"robust {percent(row['validation_robust_accuracy'])} (PGD-{steps})"]
    if row.get("rolled_back"):
        parts.append("rolled back: catastrophic overfitting to single-step attacks")
    return "  ".join([*parts, f"{row['images_per_second']:,.0f} images/s"])


def _summary(result: dict[str, Any], out: Path) -> str:
    run, validation = result["run"], result["validation"]
    radius = run["threat"]["eps"]
    levels = round(radius * 255)
    # As a fraction the attack reads back the same number.
    eps = f"{levels}/255" if 0 < levels <= _LARGEST_LEVEL and levels / 255 == radius else repr(radius)
    attack = ["parapet", "attack", "--model", str(out / "model.safetensors"), "--data", result["data"]["folder"],
              "--norm", run["threat"]["norm"], "--eps", eps, "--suite", "standard", "--audit"]
    return (f"epoch {result['best_epoch']} of {len(result['curves'])} is the best: clean accuracy "
            f"{percent(validation['clean_accuracy'])}, robust accuracy {percent(validation['robust_accuracy'])} under "
            f"{validation['attack']} ({threat(run['threat'])}, {validation['n']:,} validation images)\n"
            f"{duration(result['seconds'])}, {count(result['training_flops'])}FLOPs of training; a network of "
            f"{count(result['params'])} parameters and {count(result['flops'])}FLOPs an image\n"
            f"written to {out / 'model.safetensors'} and {out / 'train.json'}; on the test split, with the audit:\n"
            f"  {shlex.join(attack)}")


def _recipes(recipes: list[NamedRecipe]) -> Table:
    table = Table(title="recipes", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("name", "data", "threat", "what it is"):
        table.add_column(heading, no_wrap=heading != "what it is", overflow="fold")
    for recipe in recipes:
        table.add_row(recipe.name, recipe.data, threat(recipe.to_dict()["threat"]), recipe.description)
    return table
