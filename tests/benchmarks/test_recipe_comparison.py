"""Recipes set against each other: differences by hand, and a real comparison of two small ones that goes on."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.recipes.comparison import Setting, differences, measure, prepare, sentence, table
from parapet.data import digits
from parapet.errors import InputError
from parapet.steps import train
from parapet.training.recipes import load_recipe

TINY = ["training.epochs=2", "genome.width=4", "genome.steps=1", "training.validation_steps=2"]


def _row(recipe: str, seed: int, clean: float, robust: float) -> dict:
    return {"recipe": recipe, "seed": seed, "clean": clean, "robust": robust}


def test_differences_are_pairs_of_the_same_seed() -> None:
    rows = [_row("plain", 0, 0.9, 0.5), _row("other", 0, 0.9, 0.53), _row("plain", 1, 0.9, 0.4),
            _row("other", 1, 0.8, 0.45), _row("plain", 2, 0.9, 0.6)]
    clean, robust = differences(rows)
    assert (robust["recipe"], robust["against"]) == ("other", "plain")
    assert robust["differences"] == pytest.approx([0.03, 0.05]) and robust["mean"] == pytest.approx(0.04)
    # Student's t with one degree of freedom: 12.706 times the standard error, which is half the range of two numbers
    assert robust["interval"] == pytest.approx((0.04 - 12.706 * 0.01, 0.04 + 12.706 * 0.01), abs=1e-4)
    assert sentence(robust) == ("other less plain, robust accuracy: +4.0 points over 2 seeds (95 % interval -8.7 to "
                                "+16.7: no difference is shown)")
    assert differences(rows[:2])[0]["interval"] is None
    assert sentence(differences(rows[:2])[1]).endswith("+3.0 points over 1 seed; one seed has no interval")


def test_a_comparison_trains_attacks_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits.export(tmp_path / "digits")
    setting = Setting(tmp_path, tmp_path / "out", train_images=200, test_images=60, suite="search")
    recipes = [load_recipe("digits", [*TINY, f"genome.loss={loss}"]) for loss in ("standard", "pgd")]
    folder = prepare(recipes[1:], setting)
    row = measure(recipes[1], 1, folder, setting, tell=lambda text: None)
    assert (row["n"], row["training_images"], row["seed"]) == (60, 200, 1)
    assert row["robust"] <= min(shares["alone"] for shares in row["attacks"].values()) <= row["clean"]
    assert row["audit"] is None
    monkeypatch.setattr(train, "train", lambda *arguments, **options: pytest.fail("trained again"))
    again = measure(recipes[1], 1, prepare(recipes[1:], setting), setting, tell=lambda text: None)
    assert {**again, "attack_seconds": 0} == {**row, "attack_seconds": 0}
    console = Console(width=130, file=StringIO())
    console.print(table([row], "A SUBSET"))
    drawn = console.file.getvalue()
    assert f"{row['robust']:.1%}" in drawn and "not audited" in drawn
    assert prepare(recipes[1:], Setting(tmp_path, tmp_path / "out")) != folder  # nobody takes a subset for the whole
    with pytest.raises(InputError, match="two of the recipes digits, digits have one name; name files differently."):
        prepare(recipes, setting)
    with pytest.raises(InputError, match="the recipes are for cifar10, digits; compare recipes for one data set"):
        prepare([recipes[0], load_recipe("cifar10")], setting)
