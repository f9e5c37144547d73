"""Reads front.json. Every command after the search needs it, so it does not import training or search code."""

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
# The older version that is also read, and converted.
_CONVERTED = 6
EVALUATE = "run `parapet full_evaluation` again, which takes what is done from its cache"
_ASSEMBLE = "run `parapet front` again"


def read(path: Path) -> dict[str, Any]:
    """The content of front.json at `path`; version 6, which has no checksum, is converted to the current version.

    Raises InputError where it is missing, damaged, of another schema version, does not match its schema, or was not
    made from the search in the same folder.
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
    """The evaluation from which `member`, an entry of `out`/front.json, was made. Raises InputError where it is not."""
    path = out / member["evaluation"]
    found = results.read_evaluation(path, EVALUATE)
    expected = member["sha256"].get("evaluation")
    # Version 6 has no digest; then the accuracies must be those of the evaluation.
    same = found.get(sealed.CHECKSUM) == expected if expected else results.accuracies(
        found["evaluation"]) == member["test"]
    if not same:
        raise InputError(f"{path} is not the evaluation that {out / 'front.json'} was made from; {_ASSEMBLE}.")
    return found


def _older(path: Path) -> dict[str, Any] | None:
    """The content of a front.json of a version up to 6, which has no checksum; None for anything else.

    Also None where the search in the same folder has digests: then a checksum was removed from a newer file.
    """
    try:
        found = read_json(path)
        if found["schema_version"] == _CONVERTED and (path.parent / "search" / sealed.DIGESTS).exists():
            return None
        return found if found["schema_version"] <= _CONVERTED and sealed.CHECKSUM not in found else None
    except (ValueError, KeyError, TypeError):
        return None
