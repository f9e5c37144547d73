"""`python -m benchmarks.recipes NAME ...`: train recipes with several seeds and attack them on the test split."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.attacks.nets import published
from benchmarks.machine import hardware
from benchmarks.recipes.comparison import Setting, differences, measure, prepare, sentence, table
from parapet.cli import guarded
from parapet.disk.files import write_json
from parapet.training.recipes import load_recipe


def _compare(options: argparse.Namespace) -> None:
    recipes = [load_recipe(name, options.set) for name in options.names]
    setting = Setting(published(), options.out, options.train_images, options.test_images, options.suite,
                      tuple(options.also), options.audit_images, options.device)
    data = prepare(recipes, setting)
    part = options.train_images is not None or options.test_images is not None
    machine, rows = hardware(options.device), []
    where = "" if torch.device(options.device).type == "cuda" else "; not run on a GPU"
    for seed in options.seeds:
        for recipe in recipes:
            rows.append(measure(recipe, seed, data, setting, lambda text: print(text, flush=True)))
            write_json(options.results / f"recipes-{'-'.join(recipe.name for recipe in recipes)}.json", {
                "suite": options.suite, "hardware": machine, "changes": options.set, "subset": part,
                "rows": rows, "differences": differences(rows)})
    first = rows[0]
    title = (f"{'A SUBSET: ' if part else ''}{first['training_images']:,} training and {first['n']:,} test images of "
             f"{recipes[0].data}, {first['norm']} {first['eps']:.4g}, suite {options.suite}\n"
             f"{' '.join(options.set) or 'as published'}\n{machine}{where}")
    Console(width=130).print(table(rows, title))
    for difference in differences(rows):
        print(sentence(difference))


def main() -> int:
    """Read the options and compare; the first recipe is the one that the others are set against."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="RECIPE", help="see `parapet train --list`; the first is the "
                        "baseline")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="in every recipe, as in "
                        "`parapet train`")
    parser.add_argument("--train-images", type=int, default=None, help="default: all")
    parser.add_argument("--test-images", type=int, default=None, help="default: all")
    parser.add_argument("--suite", default="standard", help="as in `parapet attack` (default: standard)")
    parser.add_argument("--also", nargs="+", default=[], metavar="ATTACK", help="as in `parapet attack`")
    parser.add_argument("--audit-images", type=int, default=0, help="0: no audit (default)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"), metavar="DIR", help="default: runs/recipes")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), metavar="DIR")
    options = parser.parse_intermixed_args()
    return guarded("benchmarks.recipes", lambda: _compare(options))


if __name__ == "__main__":
    sys.exit(main())
