"""Named recipes: every shipped one is whole, the user's own are checked to the last key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from parapet.config import TrainingConfig
from parapet.data import sources
from parapet.data.dataset import Dataset
from parapet.data.digits import export
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build
from parapet.training.recipe import Recipe
from parapet.training.recipes import load_recipe, names
from parapet.training.recipes.data import prepare

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
WHOLE = """
description: Mine.
data: digits
threat: {norm: linf, eps: 8/255}
training: {epochs: 3}
genome: {width: 4, learning_rate: 1e-2}
"""


@pytest.mark.parametrize("name", names())
def test_a_shipped_recipe_is_whole_and_fits_its_images(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.description.endswith(".") and recipe.training.validate_every == 1
    assert recipe.genome == recipe.genome.canonical() == Genome.from_dict(recipe.genome.to_dict())
    Recipe.of(recipe.genome, recipe.training)
    build(recipe.genome, SHAPES[recipe.data], 10, generator=torch.Generator())


def test_the_shipped_recipes_are_these() -> None:
    assert names() == ["cifar10", "cifar10_fast", "cifar10_morel", "digits", "mnist", "mnist_trades_small_cnn"]
    plain, morel = load_recipe("cifar10"), load_recipe("cifar10_morel")
    assert plain.training == morel.training and plain.threat == morel.threat
    changed = {name for name, value in plain.genome.to_dict().items() if value != getattr(morel.genome, name)}
    assert changed == {"morel", "morel_alpha"}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(WHOLE)
    return path


def test_a_recipe_of_ones_own(own: Path) -> None:
    recipe = load_recipe(str(own), ["genome.steps=7", "threat.eps=4/255"])
    assert recipe.name == "own" and recipe.threat.eps == 4 / 255
    assert recipe.training == TrainingConfig(epochs=3, validate_every=1, checkpoint_seconds=0.0)
    assert recipe.genome == Genome(width=4, learning_rate=0.01, steps=7).canonical()


@pytest.mark.parametrize(("old", "new", "sentence"), [
    ("data:", "dta:", "data is missing; a recipe has description, data, threat, training, genome."),
    ("data: digits", "data: digits\nseed: 3",
     "seed is not a known key. The keys of the top level are: description, data, threat, training, genome."),
    ("{norm", "{nrom: l2, norm", "threat.nrom is not a known key; did you mean threat.norm? The keys of threat are: "
     "norm, eps."),
    ("epochs", "epoch", "training.epoch is not a known key; did you mean training.epochs? The keys of training are: "
     "epochs, batch_size,"),
    ("width", "widht", "genome.widht is not a known key; did you mean genome.width? The keys of genome are: backbone,"),
    ("width: 4", "trades_beta: -1", "genome.trades_beta is -1.0; it must be a number from 0 to 100."),
    ("width: 4", "trades_beta: .inf", "genome.trades_beta is inf, and it must be a number."),
    ("width: 4", "clean_share: 1", "genome.clean_share is 1.0; it must be a number from 0 to 0.99."),
    ("width: 4", "loss: tredes", "genome.loss is 'tredes'; did you mean trades? Allowed: pgd, trades,"),
    ("8/255", "8", "threat.eps is 8, but pixels lie in [0, 1], so eps must lie in (0, 1] for linf; did you mean 8/255"),
    ("data: digits", "data: cifar", "data is 'cifar'; did you mean cifar10? Allowed: digits, mnist,"),
    ("{epochs: 3}", "[3]", "training is [3], and it must be a mapping of keys to values."),
])
def test_a_wrong_key_or_value_is_told_with_what_is_allowed(own: Path, old: str, new: str, sentence: str) -> None:
    own.write_text(WHOLE.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_recipe(str(own))
    assert str(caught.value).startswith(f"recipe {own}: {sentence}")


@pytest.mark.parametrize(("change", "sentence"), [
    ("training.epochs", "--set is 'training.epochs'; it must be KEY=VALUE, for example training.epochs=3."),
    ("genome.width=[", "--set genome.width=[ has a value that YAML cannot read (at line 1, column 2: expected the node "
     "content, but found '<stream end>'); put it in quotes."),
    ("epochs=3", "--set names epochs, which no recipe has; did you mean training.epochs? The parts of a recipe are: "
     "description, data, threat, training, genome."),
    ("threat.esp=1", "--set names threat.esp, which no recipe has; did you mean threat.eps? The keys of threat are: "
     "threat.norm, threat.eps."),
])
def test_a_wrong_change_is_told(change: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("digits", [change])
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("text", "sentence"), [
    (None, "does not exist; give the path of a recipe, or one of cifar10,"),
    ("a: [", "cannot be read as plain YAML: at line 1, column"),
    ("3", "holds no recipe but 3; a recipe has description,"),
])
def test_a_file_that_is_no_recipe_is_told(tmp_path: Path, text: str | None, sentence: str) -> None:
    path = tmp_path / "file.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(f"{path} {sentence}")


def test_published_data_are_prepared_with_few_validation_images(tmp_path: Path, monkeypatch) -> None:
    labels = np.arange(4000, dtype=np.int64) % 10
    published = sources.Source("mnist", np.zeros((4000, 1, 4, 4), np.uint8), labels,
                               np.zeros((50, 1, 4, 4), np.uint8), labels[:50], 255, tuple("0123456789"))
    monkeypatch.setattr(sources, "load", lambda name, *roots: published)
    folder = prepare(load_recipe("mnist"), tmp_path, [], tmp_path / "out")
    assert folder == tmp_path / "out/dataset"
    assert Dataset.open(folder).images == {"train": 3800, "validation": 200, "test": 50}
    assert prepare(load_recipe("mnist"), tmp_path, [], tmp_path / "out") == folder
    published.images[7] = 1
    assert prepare(load_recipe("mnist"), None, [], tmp_path / "out") == folder  # nobody says where the data are now
    with pytest.raises(InputError, match=f"dataset was made from other data than {tmp_path} holds; give another fold"):
        prepare(load_recipe("mnist"), tmp_path, [], tmp_path / "out")
    with pytest.raises(InputError, match="dataset holds mnist, and the recipe digits needs digits; give another"):
        prepare(load_recipe("digits"), None, [], tmp_path / "out")


def test_downloaded_and_built_in_digits_are_the_same(tmp_path: Path) -> None:
    export(tmp_path / "root/digits")
    digits = load_recipe("digits")
    fingerprints = {Dataset.open(prepare(digits, given, roots, tmp_path / out)).fingerprint for given, roots, out in (
        (None, [], "a"), (None, [tmp_path], "b"), (tmp_path / "root", [], "c"), (tmp_path / "root/digits", [], "d"))}
    assert len(fingerprints) == 1
    assert prepare(digits, tmp_path / "a/dataset", [], tmp_path / "e") == tmp_path / "a/dataset"
    assert prepare(digits, None, [], tmp_path / "a") == tmp_path / "a/dataset"
