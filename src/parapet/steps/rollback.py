"""rollback: the champion before becomes champion again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from parapet.config import Params
from parapet.errors import InputError

if TYPE_CHECKING:
    from parapet.tracking.registry import Registry


def run(params: Params, *, uri: str, model_name: str | None = None,
        tell: Callable[[str], None] = lambda text: None) -> dict[str, str]:
    """Make version `previous` of `model_name` (default: `promotion.model_name`) champion, and the champion `previous`.

    So a second rollback undoes the first. Returns {champion, previous}, numbers of versions. Raises InputError where
    there is no champion or none before it. It waits for a promotion under way, which `tell` is told of.
    """
    from parapet.tracking.promotion_lock import promotion_lock
    from parapet.tracking.registry import CHAMPION, PREVIOUS, Registry

    registry = Registry(uri, params.promotion.model_name if model_name is None else model_name)
    _check_aliases(registry, registry.aliases())  # before a queue is made for a model that is not there
    with promotion_lock(registry, expiry=params.promotion.lock_seconds, tell=tell) as ticket:
        aliases = registry.aliases()
        _check_aliases(registry, aliases)
        ticket.begin(aliases=aliases, version=aliases[PREVIOUS])
        ticket.check()
        registry.move_champion(aliases[PREVIOUS])
    return {"champion": aliases[PREVIOUS], "previous": aliases[CHAMPION]}


def _check_aliases(registry: Registry, aliases: dict[str, str]) -> None:
    from parapet.tracking.registry import CHAMPION, PREVIOUS

    for alias in (CHAMPION, PREVIOUS):
        if alias not in aliases:
            raise InputError(f"the registered model {registry.model_name} has no version with the alias {alias}, so "
                             "there is nothing to roll back to; promote twice before, or set the alias by hand.")
