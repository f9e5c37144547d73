"""NSGA-II by ask and tell: resumed equals undisturbed, nothing twice, never an empty generation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from parapet.errors import InputError
from parapet.genome import Genome, SearchSpace
from parapet.search.evolution import Evolution
from parapet.search.operators import first_generation

GOLDEN = Path(__file__).parent / "golden" / "trajectory.json"


def _objectives(genome: Genome) -> list[float] | None:
    """A made-up trade-off with infeasible regions; deterministic and cheap."""
    if genome.denoiser == "median" and genome.width > 8:
        return None
    size = genome.width * genome.depth * (2 if genome.backbone == "residual" else 1)
    return [1 / (size + 1) + 0.1 * (genome.loss == "pgd"), 1 / (size * genome.steps + 1), float(np.log10(size))]


def _evolution(seed: int = 3, population: int = 8, space: SearchSpace | None = None) -> Evolution:
    return Evolution(space or SearchSpace(), population=population, objectives=3, seed=seed)


def _run(generations: int, *, interrupt: bool, evolution: Evolution | None = None) -> list[list[Genome]]:
    evolution = evolution or _evolution()
    asked = []
    for _ in range(generations):
        genomes = evolution.ask()
        if interrupt:
            evolution = _revived(evolution)
            assert evolution.ask() == genomes
        asked.append(genomes)
        evolution.tell([_objectives(genome) for genome in genomes])
        if interrupt:
            evolution = _revived(evolution)
    return asked


def _revived(evolution: Evolution) -> Evolution:
    """Through strict JSON, into an object that began with another seed."""
    state = json.loads(json.dumps(evolution.state(), allow_nan=False))
    revived = _evolution(seed=999)
    revived.restore(state)
    return revived


def test_an_interrupted_search_equals_an_undisturbed_one() -> None:
    assert _run(8, interrupt=True) == _run(8, interrupt=False)


def test_the_trajectory_of_a_seed_is_golden() -> None:
    """Refresh with: python -m tests.search.test_evolution"""
    expected = json.loads(GOLDEN.read_text())
    assert [[genome.digest()[:12] for genome in genomes] for genomes in _run(5, interrupt=False)] == expected


def test_no_genome_is_proposed_twice() -> None:
    asked = [genome for genomes in _run(8, interrupt=False) for genome in genomes]
    assert len(asked) == 64 == len(set(asked))


def test_another_seed_is_another_search() -> None:
    assert _run(2, interrupt=False) != _run(2, interrupt=False, evolution=_evolution(seed=4))


def test_offspring_come_from_the_better_half() -> None:
    evolution = _evolution(population=16)
    for _ in range(10):
        genomes = evolution.ask()
        evolution.tell([_objectives(genome) for genome in genomes])
    assert np.mean([genome.loss == "trades" for genome in evolution.ask()]) > 0.7


def test_all_infeasible_generations_do_not_stop_the_search() -> None:
    evolution = _evolution()
    for _ in range(3):
        evolution.tell([None] * len(evolution.ask()))
    assert len(evolution.ask()) == 8


def test_an_exhausted_space_still_gives_a_generation() -> None:
    narrow = {gene.name: [gene.choices[0]] for gene in SearchSpace().genes}
    space = SearchSpace({**narrow, "width": [4, 8], "depth": [1, 2]})
    evolution = _evolution(population=4, space=space)
    for _ in range(3):
        genomes = evolution.ask()
        assert genomes
        evolution.tell([_objectives(genome) for genome in genomes])


def test_the_first_generation_holds_the_cheap_and_the_strong_end() -> None:
    space = SearchSpace()
    genomes = [space.decode(row) for row in first_generation(space, 8, np.random.default_rng(0))]
    assert min(space.choices("width")) == genomes[0].width and max(space.choices("width")) == genomes[2].width
    assert genomes[2].backbone == "residual" and len(set(genomes)) == 8


def test_a_space_smaller_than_the_population_is_told() -> None:
    narrow = {gene.name: [gene.choices[0]] for gene in SearchSpace().genes}
    with pytest.raises(InputError, match="search.space holds at most 1 genomes, fewer than search.population"):
        _evolution(space=SearchSpace(narrow))


def test_a_state_of_another_space_is_told() -> None:
    state = _evolution().state()
    with pytest.raises(InputError, match="do not fit this search"):
        _evolution(space=SearchSpace({"width": [4, 8]})).restore(state)


def test_results_that_were_not_asked_for_are_refused() -> None:
    evolution = _evolution()
    evolution.ask()
    with pytest.raises(ValueError, match="told 1 results, asked for 8"):
        evolution.tell([None])


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps([[genome.digest()[:12] for genome in genomes]
                                  for genomes in _run(5, interrupt=False)], indent=1) + "\n")
