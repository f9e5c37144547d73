"""How much training a candidate gets."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapet.catalogue.losses import LOSSES
from parapet.config import Rung, TrainingConfig
from parapet.errors import InputError
from parapet.fidelity import Fidelity
from parapet.genome import Genome


def test_a_ladder_ends_with_full_training() -> None:
    ladder = Fidelity.ladder((Rung(2, 0.25, "n_fgsm"), Rung(4)), 12)
    assert ladder == [Fidelity(0, False, 2, 0.25, "n_fgsm"), Fidelity(1, False, 4), Fidelity(2, True, 12)]
    assert Fidelity.ladder((), 12) == [Fidelity(0, True, 12)]


@pytest.mark.parametrize(("rungs", "epochs", "text"), [
    ((4, 2), 12, "search.rungs[0].epochs is 4, and search.rungs[1].epochs is 2"),
    ((2, 2), 12, "search.rungs[0].epochs is 2, and search.rungs[1].epochs is 2"),
    ((2, 12), 12, "search.rungs[1].epochs is 12, and training.epochs is 12"),
    ((2, 4, 20), 12, "search.rungs[2].epochs is 20, and training.epochs is 12"),
])
def test_each_rung_trains_longer_than_the_one_below(rungs: tuple[int, ...], epochs: int, text: str) -> None:
    sentence = f"{text}; epochs count from the start of training, so each rung needs more of them than the one below."
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        Fidelity.ladder(tuple(map(Rung, rungs)), epochs)


@given(st.builds(Fidelity, st.integers(0, 9), st.booleans(), st.integers(1, 99), st.floats(0.01, 1.0),
                 st.sampled_from(("own", "n_fgsm"))))
def test_json_gives_it_back(fidelity: Fidelity) -> None:
    assert Fidelity.from_dict(json.loads(json.dumps(fidelity.to_dict()))) == fidelity


def test_one_noisy_step_takes_the_place_of_the_genomes_attack() -> None:
    cheap, genome = Fidelity(0, False, 2, 1.0, "n_fgsm"), Genome(steps=3)
    recipe = cheap.recipe(genome)
    assert (recipe.crafting, recipe.steps) == ("n_fgsm", 1)
    assert replace(recipe, crafting="pgd", steps=3) == genome.canonical()
    assert Fidelity(0, False, 2).recipe(genome) is genome


@pytest.mark.parametrize("genome", [*(Genome(loss=loss) for loss, spec in LOSSES.items()
                                          if not spec.attacked), Genome(crafting="fgsm"),
                                    Genome(crafting="ensemble"), Genome(crafting="n_fgsm")])
def test_what_costs_one_step_or_none_keeps_its_recipe(genome: Genome) -> None:
    assert Fidelity(0, False, 2, 1.0, "n_fgsm").recipe(genome) is genome


@given(st.integers(1, 10_000), st.integers(1, 500), st.floats(0.01, 1.0))
def test_a_share_of_the_images_is_at_least_a_batch(available: int, batch: int, share: float) -> None:
    count = Fidelity(0, False, 1, share).images(available, batch)
    assert min(batch, available) <= count <= available
    assert count in (available, batch) or abs(count - share * available) <= 0.5
    assert Fidelity(0, True, 1).images(available, batch) == available


def test_what_goes_on_trains_the_epochs_that_are_left_at_the_whole_radius() -> None:
    config, fidelity = TrainingConfig(epochs=99, eps_ramp=0.3), Fidelity(1, False, 12)
    assert fidelity.config(config) == TrainingConfig(epochs=12, eps_ramp=0.3)
    assert fidelity.config(config, behind=4, started=True) == TrainingConfig(epochs=8, eps_ramp=0.0)
    assert fidelity.config(config, started=True) == TrainingConfig(epochs=12, eps_ramp=0.0)
