"""Promotions for the tests of the lock: one that is interrupted, and many at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from parapet.registry.promotion_lock import Ticket, promotion_lock
from parapet.registry.registry import Registry


@contextmanager
def interrupted(registry: Registry) -> Iterator[Ticket]:
    """A promotion that Ctrl-C ends after the block."""
    with pytest.raises(KeyboardInterrupt), promotion_lock(registry) as ticket:
        yield ticket
        raise KeyboardInterrupt


def take_turns(registry: Registry, count: int, expiry: float) -> None:
    """`count` threads promote at once: every one gets its turn, and no two are inside together."""
    inside, most, turns = [], [], []

    def promote() -> None:
        with promotion_lock(registry, expiry=expiry):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()
            turns.append(1)

    threads = [threading.Thread(target=promote) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(turns) == count and max(most) == 1
