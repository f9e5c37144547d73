"""Stratified draws: every label's share, every image's chance, and no say for the order of the file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.data.sampling import Drawn, stratified


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any), share=st.floats(0.01, 1.2),
       seed=st.integers(0, 2**63 - 1), order=st.sampled_from(["sorted", "backwards", "shuffled", "interleaved"]))
def test_every_label_has_its_share_to_within_one_image(sizes: list[int], share: float, seed: int, order: str) -> None:
    labels = np.repeat(np.arange(len(sizes)) * 3, sizes)
    if order == "backwards":
        labels = labels[::-1]
    elif order == "shuffled":
        labels = np.random.default_rng(1).permutation(labels)
    elif order == "interleaved":
        labels = labels[np.arange(len(labels)) * 7 % len(labels)]
    count = max(1, round(share * len(labels)))
    places = stratified(labels, count, seed)
    assert len(places) == min(count, len(labels)) == len(set(places.tolist()))
    assert (np.diff(places) > 0).all() and places[0] >= 0 and places[-1] < len(labels)
    assert np.array_equal(places, stratified(labels, count, seed))
    for label in np.unique(labels):
        quota = len(places) * (labels == label).mean()
        assert np.floor(quota - 1e-9) <= (labels[places] == label).sum() <= np.ceil(quota + 1e-9)


def test_every_image_is_as_likely_as_any_other_also_where_labels_outnumber_the_draws() -> None:
    labels = np.sort(np.arange(20) % 7)
    counts = np.bincount(np.concatenate([stratified(labels, 3, seed) for seed in range(4000)]), minlength=20)
    # 4,000 draws of a chance of 3 in 20: 600, give or take 23 (one standard deviation).
    assert np.abs(counts - 600).max() < 5 * 23


def test_another_seed_draws_other_images() -> None:
    labels = np.repeat(np.arange(10), 100)
    assert not np.array_equal(stratified(labels, 100, 0), stratified(labels, 100, 1))


@pytest.mark.parametrize(("drawn", "sentence"), [
    (Drawn(1000, 10_000, 0), "1,000 of 10,000 images, drawn with seed 0, stratified by label"),
    (Drawn(7, 360, None), "7 of 360 images, drawn when the data set was prepared, stratified by label"),
    (Drawn(360, 360, 5), "all 360 images")])
def test_what_is_said_of_a_draw(drawn: Drawn, sentence: str) -> None:
    assert str(drawn) == sentence
