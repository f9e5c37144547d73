"""Which images stay in a batch: all that are active, others that fill it, and when a loop looks."""

from __future__ import annotations

import torch

from parapet.attacks.batching import batches, due, shrink


def _active(size: int, *places: int) -> torch.Tensor:
    return torch.isin(torch.arange(size), torch.tensor(places))


def test_a_batch_is_filled_up_to_the_multiple_with_the_first_of_the_others() -> None:
    # Three are active of twelve; the next multiple of four takes one more, all in their order.
    found = shrink(_active(12, 2, 7, 9), multiple=4)
    assert found is not None and found.tolist() == [0, 2, 7, 9]
    found = shrink(_active(200, 150, 199))
    assert found is not None and found.tolist() == [*range(62), 150, 199]


def test_a_batch_of_a_whole_multiple_takes_nobody_else() -> None:
    found = shrink(_active(12, 2, 7, 9, 11), multiple=4)
    assert found is not None and found.tolist() == [2, 7, 9, 11]
    found = shrink(_active(12), multiple=4)
    assert found is not None and found.tolist() == []


def test_a_batch_that_would_not_get_smaller_stays() -> None:
    assert shrink(_active(4, 1), multiple=4) is None
    assert shrink(_active(8, 0, 1, 2, 3, 4), multiple=4) is None
    assert shrink(_active(9, 0, 1, 2, 3, 4), multiple=4) is not None
    assert shrink(_active(64, 0)) is None and shrink(_active(65, 0)) is not None


def test_a_loop_looks_at_its_first_steps_and_then_now_and_then() -> None:
    assert [step for step in range(30) if due(step)] == [0, 1, 2, 3, 8, 16, 24]


def test_batches_hold_the_chosen_images_in_order() -> None:
    assert [batch.tolist() for batch in batches(_active(9, 1, 3, 4, 8), 3)] == [[1, 3, 4], [8]]
    assert batches(_active(9), 3) == ()
