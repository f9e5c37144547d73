"""rollback: makes the previous champion the champion again."""

from __future__ import annotations

from collections.abc import Callable

from parapet.config import Params
from parapet.errors import InputError
from parapet.registry.contents import check
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.promotion_lock import promotion_lock
from parapet.registry.registry import CHAMPION, PREVIOUS, Registry, Version

_VERB = "rollback"


def run(params: Params, *, uri: str, model_name: str | None = None,
        tell: Callable[[str], None] = lambda text: None) -> dict[str, str | None]:
    """Make version `previous` of `model_name` (default: `promotion.model_name`) champion, and the champion `previous`.

    So a second rollback undoes the first. Returns {champion, previous}, numbers of versions; `previous` is None where
    the champion was deleted. Raises InputError where there is no previous champion, WorkError where its files are
    not those that were registered. It waits for a promotion under way, and reports that to `tell`. If a rollback was
    killed after it had moved the champion, the next one does not undo it and changes nothing.
    """
    registry = MlflowRegistry(uri, params.promotion.model_name if model_name is None else model_name)
    if not registry.queue().exists():
        _before(registry)  # no queue is created for a model that does not exist
    with promotion_lock(registry, expiry=params.promotion.lock_seconds, tell=tell) as ticket:
        aliases = registry.aliases()
        if ticket.done_before.get("verb") == _VERB and ticket.done_before.get("version") == aliases.get(CHAMPION):
            tell("the rollback before this one was killed after it had moved the champion; it is not undone")
            return {"champion": aliases[CHAMPION], "previous": aliases.get(PREVIOUS)}
        version = _before(registry)
        check(registry, version)
        ticket.begin(verb=_VERB, aliases=aliases, version=version.number)
        ticket.check()
        registry.move_champion(version.number)
        return {"champion": version.number, "previous": registry.aliases().get(PREVIOUS)}


def _before(registry: Registry) -> Version:
    """The version that the alias `previous` points at. Raises InputError where there is none, or it is the champion."""
    aliases = registry.aliases()
    name, number = registry.model_name, aliases.get(PREVIOUS)
    if number is None or number == aliases.get(CHAMPION):
        alias = PREVIOUS if CHAMPION in aliases else CHAMPION
        raise InputError(f"the registered model {name} has no version with the alias {alias}, so there is nothing to "
                         "roll back to; promote twice before, or set the alias by hand.")
    version = registry.version(number)
    if version is None:
        raise InputError(f"the alias {PREVIOUS} of the registered model {name} points at version {number}, which was "
                         "deleted, so there is nothing to roll back to; promote another candidate, or point the alias "
                         "at a version that is there.")
    return version
