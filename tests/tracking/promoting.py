"""A promotion as a process: `python -m tests.tracking.promoting URI NAME VERSION EXPIRY SECONDS`.

It takes the lock, puts VERSION up as challenger, prints "inside", spends SECONDS as the gate would, and moves the
champion, unless somebody moved it since.
"""

from __future__ import annotations

import sys
import time

from parapet.errors import PromotionRefused
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.promotion_lock import promotion_lock


def main(uri: str, name: str, version: str, expiry: str, seconds: str) -> None:
    """Promote."""
    registry = MlflowRegistry(uri, name)
    with promotion_lock(registry, expiry=float(expiry), tell=lambda text: print(text, flush=True)) as ticket:
        before = registry.aliases()
        ticket.begin(aliases=before, version=version)
        registry.point("challenger", version)
        print(f"inside, champion is {before.get('champion')}", flush=True)
        time.sleep(float(seconds))
        try:
            ticket.check()
        except PromotionRefused as error:
            print(error, flush=True)
            raise SystemExit(3) from None
        registry.move_champion(version)
    print("moved", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
