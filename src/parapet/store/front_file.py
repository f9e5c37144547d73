"""front.json read: by every verb after the search, so it takes nothing along that trains or searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parapet import schemas
from parapet.disk import sealed
from parapet.disk.files import read_json
from parapet.errors import InputError
from parapet.quoting import quote
from parapet.store import results
from parapet.store.older_blocks import converted_front
from parapet.store.search_folder import SearchFolder

SCHEMA_VERSION = 7
# The version that is read too.
_CONVERTED = 6
EVALUATE = "run `parapet full_evaluation` again, which takes what is done from its cache"
_ASSEMBLE = "run `parapet front` again"


def read(path: Path) -> dict[str, Any]:
    """front.json at `path`, one of schema version 6, which had no checksum, in today's form.

    InputError where it is damaged, of another schema version, does not meet its schema, or was not made from the search
    beside it.
    """
    try:
        front = sealed.look(path)
        version = front.get("schema_version")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; finish a search with `parapet run` first, or name the folder of its "
                         "artifacts.") from None
    except sealed.Damaged as error:
        if (older := _older(path)) is None:
            raise InputError(f"{path} is damaged ({error}); {_ASSEMBLE}.") from None
        front, version = older, older["schema_version"]
    if version != SCHEMA_VERSION and (version != _CONVERTED or sealed.CHECKSUM in front):
        raise InputError(f"{path} has schema version {quote(version)}, and this Parapet reads versions {_CONVERTED} "
                         f"and {SCHEMA_VERSION}; run `parapet full_evaluation` and `parapet front` again.")
    try:
        front = converted_front(front) if version == _CONVERTED else front
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged (its form is another); {_ASSEMBLE}.") from None
    if (problem := schemas.problem("front", front)) is not None:
        raise InputError(f"{path} is damaged ({problem}); {_ASSEMBLE}.")
    search = path.parent / "search"
    made_from = front["search"].get("sha256")
    if version == SCHEMA_VERSION and (search / sealed.DIGESTS).exists() and SearchFolder(search).checksum != made_from:
        raise InputError(f"{path} was not made from the search in {search}; {_ASSEMBLE}.")
    return front


def read_evaluation(out: Path, member: dict[str, Any]) -> dict[str, Any]:
    """The evaluation of `member`, an entry of `out`/front.json, that it was made from. Raises InputError."""
    path = out / member["evaluation"]
    found = results.read_evaluation(path, EVALUATE)
    expected = member["sha256"].get("evaluation")
    # Without a digest, which version 6 had not, its numbers have to be those of the evaluation.
    same = found.get(sealed.CHECKSUM) == expected if expected else results.accuracies(
        found["evaluation"]) == member["test"]
    if not same:
        raise InputError(f"{path} is not the evaluation that {out / 'front.json'} was made from; {_ASSEMBLE}.")
    return found


def _older(path: Path) -> dict[str, Any] | None:
    """A front.json without a checksum, because versions up to 6 had none; None for anything else.

    A search of today's Parapet beside it makes it one whose checksum was taken out.
    """
    try:
        found = read_json(path)
        if found["schema_version"] == _CONVERTED and (path.parent / "search" / sealed.DIGESTS).exists():
            return None
        return found if found["schema_version"] <= _CONVERTED and sealed.CHECKSUM not in found else None
    except (ValueError, KeyError, TypeError):
        return None
