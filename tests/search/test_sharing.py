"""How many processes share a card: the decision on known curves, and real processes on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapet.config import Params, parse
from parapet.disk import sealed
from parapet.genome import Genome
from parapet.search import sharing

SMALL = Genome(width=4, depth=1, steps=1)


@pytest.mark.parametrize(("rates", "most", "best"), [
    ({1: 10}, 1, 1),
    ({1: 10, 2: 11}, 8, 1),
    ({1: 10, 2: 20, 4: 40, 8: 42, 6: 60}, 8, 6),
    ({1: 10, 2: 20, 4: 40, 8: 42, 6: 41}, 8, 4),
    ({1: 10, 2: 20, 4: 40, 6: 60}, 6, 6),
    ({1: 10, 2: 20, 3: 0}, 3, 2),
    ({1: 10, 2: 20, 4: 0, 3: 30}, 8, 3),
    ({1: 0}, 4, 1)])
def test_processes_are_doubled_while_that_is_worth_it(rates: dict[int, float], most: int, best: int) -> None:
    assert sharing.processes(lambda count: rates[count], most) == best


@given(st.integers(1, 64), st.floats(0.5, 64))
def test_a_card_that_holds_so_many_at_full_speed_is_filled_and_no_more_are_asked_for(most: int, room: float) -> None:
    asked: list[int] = []

    def throughput(count: int) -> float:
        asked.append(count)
        return min(count, room)
    best = sharing.processes(throughput, most)
    assert 1 <= best <= most and max(asked) <= most and len(asked) <= 9
    # Within a third of what would be possible: a doubling and the middle of it have been tried.
    assert min(best, room) >= min(most, room) / 1.5 - 1e-9


def _params() -> Params:
    return parse(Params, {"training": {"epochs": 1}, "search": {"space": {"width": [4], "depth": [1]}}})


def test_two_real_processes_train_at_once(digits_folder: Path) -> None:
    rate = sharing.steps_per_second(_params(), SMALL, digits_folder, "cpu", 2, steps=4)
    assert rate > 0


def test_a_process_that_fails_means_that_so_many_do_not_fit(tmp_path: Path, digits_folder: Path) -> None:
    bad = tmp_path / "dataset"
    bad.mkdir()
    info = json.loads((digits_folder / "dataset.json").read_text())
    sealed.write(bad / "dataset.json", {**info, "mean": [0.1, 0.2]})
    for split in ("train", "validation", "test"):
        (bad / f"{split}.safetensors").symlink_to(digits_folder / f"{split}.safetensors")
    assert sharing.steps_per_second(_params(), SMALL, bad, "cpu", 1, steps=2) == 0.0


def test_what_was_found_is_not_timed_again(tmp_path: Path, digits_folder: Path) -> None:
    kept = tmp_path / "sharing.json"
    found = sharing.per_card(_params(), digits_folder, "cpu", kept)
    assert found >= 1
    (key, value), = ((name, value) for name, value in json.loads(kept.read_text()).items() if name != "checksum")
    assert value == found
    kept.write_text(json.dumps({key: 7}))  # without its checksum it is not believed
    assert sharing.per_card(_params(), digits_folder, "cpu", kept) != 7
    sealed.write(kept, {key: 7})
    assert sharing.per_card(_params(), digits_folder, "cpu", kept) == 7
