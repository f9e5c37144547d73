"""The lock on the backend of a cluster, where numbers of versions are drawn by several workers at once."""

import threading
import time

from parapet.registry.promotion_lock import promotion_lock
from parapet.registry.registry import Registry
from tests.tracking.registry_dump import dump
from tests.tracking.test_postgresql import database, pytestmark, served  # noqa: F401  fixtures and when to skip


def test_many_promotions_at_once_take_turns_on_postgresql(served):  # noqa: F811  a fixture
    registry, inside, most, turns = Registry(served.uri, "crowd"), [], [], []

    def promote() -> None:
        with promotion_lock(registry, expiry=20):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.1)
            inside.pop()
            turns.append(1)

    threads = [threading.Thread(target=promote) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(turns) == 6 and max(most) == 1
    assert dump(served.uri)["crowd.promotion-lock"]["versions"] == {}
