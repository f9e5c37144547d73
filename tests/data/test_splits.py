import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parapet.config import DataPrepConfig
from parapet.data import split
from parapet.data.splits import interleave
from parapet.errors import InputError

calm = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
class_sizes = st.lists(st.integers(12, 60), min_size=2, max_size=8)
shares = st.floats(0.1, 0.4)
seeds = st.integers(0, 2**31 - 1)


def labels_of(sizes, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


@calm
@given(sizes=class_sizes, validation=shares, test=shares, seed=seeds)
def test_three_ways(make_source, sizes, validation, test, seed):
    source = make_source(labels_of(sizes))
    parts = split(source, DataPrepConfig(validation_share=validation, test_share=test), seed)
    total = sum(sizes)
    assert list(parts) == ["train", "validation", "test"]
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(total))
    for name, share in (("validation", validation), ("test", test)):
        counts = np.bincount(source.labels[parts[name]], minlength=len(sizes))
        assert len(parts[name]) == round(share * total)
        # Half an image more than one, for the rounding of the total.
        assert np.abs(counts - share * np.array(sizes)).max() <= 1.5


@calm
@given(sizes=class_sizes, share=shares, seed=seeds)
def test_published_test_split_is_kept(make_source, sizes, share, seed):
    source = make_source(labels_of(sizes), test_labels=labels_of(sizes[::-1], 1))
    parts = split(source, DataPrepConfig(validation_share=share), seed)
    assert sorted(parts["test"].tolist()) == list(range(sum(sizes)))
    assert sorted([*parts["train"].tolist(), *parts["validation"].tolist()]) == list(range(sum(sizes)))
    assert len(parts["validation"]) == round(share * sum(sizes))


@calm
@given(seed=seeds)
def test_same_seed_same_split_and_another_seed_another(make_source, seed):
    source = make_source(labels_of([30, 30, 30]))
    one, same, other = (split(source, DataPrepConfig(), number) for number in (seed, seed, seed + 1))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not all(np.array_equal(one[name], other[name]) for name in one)


@calm
@given(sizes=class_sizes, limit=st.integers(10, 80), published=st.booleans())
def test_limits_take_a_stratified_part_and_nothing_else_changes(make_source, sizes, limit, published):
    source = make_source(labels_of(sizes), test_labels=labels_of(sizes) if published else None)
    whole = split(source, DataPrepConfig(), 0)
    test_labels = source.test_labels if published else source.labels
    kept = {"train": np.bincount(source.labels[whole["train"]]), "test": np.bincount(test_labels[whole["test"]])}
    if any(limit * counts.min() < counts.sum() for counts in kept.values()):
        limit = max(-(-counts.sum() // counts.min()) for counts in kept.values())
    part = split(source, DataPrepConfig(limit_train=int(limit), limit_test=int(limit)), 0)
    assert np.array_equal(part["validation"], whole["validation"])
    for name, labels in (("train", source.labels), ("test", test_labels)):
        assert len(part[name]) == min(limit, len(whole[name]))
        assert set(part[name]) <= set(whole[name])
        counts = np.bincount(labels[part[name]], minlength=len(sizes))
        assert np.abs(counts - kept[name] * len(part[name]) / len(whole[name])).max() < 1


@calm
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_interleave_makes_every_prefix_stratified(sizes):
    labels = labels_of(sizes)
    order = interleave(labels)
    assert sorted(order.tolist()) == list(range(len(labels)))
    for label in range(len(sizes)):
        mine = order[labels[order] == label]
        assert mine.tolist() == np.flatnonzero(labels == label).tolist()
        have = np.cumsum(labels[order] == label)
        due = np.arange(1, len(labels) + 1) * sizes[label] / len(labels)
        # Each class runs at most half an image early or late against the common clock, and the clock itself
        # is read through all classes at once.
        assert np.abs(have - due).max() <= 1 + len(sizes) / 2


def test_interleave_of_a_balanced_set_goes_round():
    assert interleave(np.array([0, 0, 0, 1, 1, 1])).tolist() == [0, 3, 1, 4, 2, 5]


CHANGE = "; change the shares, or add images of that class."
WHOLE = "; every class must be in every split, so take a whole copy of the data set."


@pytest.mark.parametrize("sizes, test_sizes, config, message", [
    ([50, 2], None, DataPrepConfig(),
     "class 'c1' of tiny is missing from the validation split: its number of images, 2, is too small for "
     f"data_prep.validation_share 0.2 and data_prep.test_share 0.2{CHANGE}"),
    ([50, 1], [5, 5], DataPrepConfig(),
     "class 'c1' of tiny is missing from the validation split: its number of images, 1, is too small for "
     f"data_prep.validation_share 0.2{CHANGE}"),
    ([50, 0, 50], None, DataPrepConfig(),
     f"class 'c1' of tiny is missing from the train split, because the data set has no image of it{WHOLE}"),
    ([50, 50], [5, 0], DataPrepConfig(),
     f"class 'c1' of tiny is missing from the published test split{WHOLE}"),
    ([50, 50], None, DataPrepConfig(validation_share=0.5, test_share=0.5),
     "data_prep.validation_share 0.5 and data_prep.test_share 0.5 leave nothing to train on; "
     "their sum must be below 1."),
    ([5000, 10], None, DataPrepConfig(limit_train=20),
     "data_prep.limit_train is 20, which leaves no image of class 'c1' of tiny in the train split; "
     "give at least 501."),
    ([50] * 20, None, DataPrepConfig(limit_test=10),
     "data_prep.limit_test is 10, which leaves no image of class 'c10' of tiny in the test split; "
     "give at least 20."),
])
def test_a_class_that_is_missing(make_source, sizes, test_sizes, config, message):
    classes = tuple(f"c{label}" for label in range(len(sizes)))
    source = make_source(labels_of(sizes), test_labels=labels_of(test_sizes) if test_sizes else None, classes=classes)
    with pytest.raises(InputError) as error:
        split(source, config, 0)
    assert str(error.value) == message
