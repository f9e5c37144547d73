"""Copies the champion of one environment to another; each environment is a registered model of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parapet.config import Params
from parapet.errors import InputError, PromotionRefused
from parapet.quoting import quote
from parapet.registry.contents import DIGEST_TAG, check, file_tags
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.promotion_lock import promotion_lock
from parapet.registry.registration import copy, known
from parapet.registry.registry import CHAMPION


def copy_champion(params: Params, to: str, *, uri: str, model_name: str | None = None,
                  tell: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Copy the champion of `model_name` (default: `promotion.model_name`) to the registered model `to`, as champion.

    The model passed the gate of its own environment and is not judged again; the champion of `to` gets the alias
    `previous`. Returns {source, version, previous, moved}; `moved` is False where the model is champion of `to`
    already. Raises InputError where there is no champion, PromotionRefused where somebody moved the champion of `to`
    meanwhile, and WorkError where the champion's files are not those that were registered.
    """
    source, target = (MlflowRegistry(uri, name) for name in (model_name or params.promotion.model_name, to))
    if source.model_name == target.model_name:
        raise InputError(f"--to is {quote(to)}, which is the model to copy from; give the name of another "
                         "environment's.")
    champion = source.aliased(CHAMPION)
    if champion is None:
        gone = source.aliases().get(CHAMPION)
        raise InputError(f"the registered model {source.model_name} has no champion to copy"
                         + (f": the alias points at version {gone}, which was deleted" if gone else "")
                         + "; promote one first.")
    check(source, champion)
    with promotion_lock(target, expiry=params.promotion.lock_seconds, tell=tell) as ticket:
        before, there = target.aliases(), target.aliased(CHAMPION)
        outcome = {"source": champion.number, "previous": there and there.number}
        files = file_tags(champion.tags)
        if there is not None and files and file_tags(there.tags) == files:
            return {**outcome, "version": there.number, "moved": False}
        ticket.begin(aliases=before, model_created=not target.exists(),
                     copying={"digest": champion.tags.get(DIGEST_TAG, ""), "after": target.newest()})
        target.create_model()
        version = known(target, files) or copy(source, champion, target)
        ticket.begin(version=version.number)
        ticket.check()
        if target.aliases().get(CHAMPION) != before.get(CHAMPION):
            raise PromotionRefused(f"somebody moved the champion of {to} meanwhile; look at it, and copy again.")
        target.move_champion(version.number)
    return {**outcome, "version": version.number, "moved": True}
