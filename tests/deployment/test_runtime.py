"""Running a graph: what is wrong with a graph is told apart from what the machine lacks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from parapet.deployment import runtime
from parapet.errors import InputError, is_out_of_memory

ASKED = "Failed to allocate memory for requested buffer of size {}"


def _running(message: str) -> SimpleNamespace:
    def run(outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        raise RuntimeError(message)
    return SimpleNamespace(run=run)


def test_a_graph_that_asks_for_more_memory_than_any_machine_has_is_damaged() -> None:
    images = np.zeros((2, 1, 8, 8), np.float32)
    with pytest.raises(InputError, match=r"the graph cannot be run on images of shape \(2, 1, 8, 8\) .*export"):
        runtime.predict(_running(ASKED.format(54535776737690880)), images)
    with pytest.raises(RuntimeError) as caught:
        runtime.predict(_running(ASKED.format(2**34)), images)
    assert is_out_of_memory(caught.value)
