"""Whose weights a child begins with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.genome import Genome
from parapet.search.network_space import SearchSpace
from parapet.search.parents import distance, inheritable, nearest
from tests.search.archive_records import failed, record

SPACE = SearchSpace()
CHILD = Genome(backbone="plain", width=8, depth=1, loss="trades", trades_beta=2.0, steps=1).canonical()


def _like(**changes) -> Genome:
    return replace(CHILD, **changes).canonical()


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, 0.0),
    ({"activation": "silu"}, 1.0),
    ({"width": 12}, 1 / 3),  # one of the three steps from 4 to 16
    ({"width": 16}, 2 / 3),
    ({"depth": 2}, 1.0),
    ({"steps": 2}, 0.1),
    ({"trades_beta": 6.0}, 0.1 * 2 / 3),
    ({"activation": "silu", "learning_rate": 0.4}, 1.0 + 0.1 * 1 / 2),
])
def test_distances_by_hand(changes: dict, expected: float) -> None:
    assert distance(SPACE, CHILD, _like(**changes)) == pytest.approx(expected)


def test_the_nearest_architecture_goes_before_the_nearest_recipe() -> None:
    recipe = _like(steps=2, trades_beta=6.0, learning_rate=0.4, weight_decay=0.0, loss="pgd")
    architecture = _like(activation="silu")
    found = nearest(SPACE, CHILD, [record(genome=architecture), record(genome=recipe)])
    assert found.genes == recipe.to_dict()


def test_another_family_or_a_failure_is_never_inherited_from() -> None:
    other, same = record(genome=_like(backbone="residual")), record(genome=_like(activation="silu", depth=2))
    lost = failed(genome=_like(steps=2))
    assert nearest(SPACE, CHILD, [other, lost, same]) is same
    assert nearest(SPACE, CHILD, [other, lost]) is None
    assert nearest(SPACE, CHILD, []) is None


def test_a_transformer_inherits_from_its_own_width_alone() -> None:
    small, large = (Genome(backbone="vit", width=width) for width in (8, 16))
    assert inheritable(small, replace(small, depth=1)) and not inheritable(small, large)


def test_ties_go_by_fidelity_then_by_id() -> None:
    below, above = _like(width=4), _like(width=12)  # as far to one side as to the other
    cheap, full = record(genome=below, rung=0), record(genome=above, rung=2)
    assert nearest(SPACE, CHILD, [cheap, full]) is full is nearest(SPACE, CHILD, [full, cheap])
    one, other = sorted((record(genome=below), record(genome=above)), key=lambda each: each.id)
    assert nearest(SPACE, CHILD, [other, one]) is one is nearest(SPACE, CHILD, [one, other])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=6), st.randoms())
def test_the_order_of_records_has_no_influence(seeds, chance) -> None:
    genomes = [SPACE.decode(np.random.default_rng(seed).integers(0, SPACE.upper + 1)) for seed in seeds]
    records = [record(genome=genome, rung=seed % 3) for genome, seed in zip(genomes, seeds)]
    shuffled = records[:]
    chance.shuffle(shuffled)
    assert nearest(SPACE, CHILD, shuffled) == nearest(SPACE, CHILD, records)
