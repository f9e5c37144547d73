"""front.json read: by every verb after the search, so it takes nothing along that trains or searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parapet import schemas
from parapet.errors import InputError
from parapet.files import read_json
from parapet.search.older_blocks import converted_front

SCHEMA_VERSION = 7
# The version that is read too.
_CONVERTED = 6


def read(path: Path) -> dict[str, Any]:
    """front.json at `path`, one of schema version 6 in today's form.

    InputError where it is damaged, of another schema version, or does not meet its schema.
    """
    try:
        front = read_json(path)
        version = front.get("schema_version")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; finish a search with `parapet run` first, or name the folder of its "
                         "artifacts.") from None
    except (ValueError, AttributeError):
        raise InputError(f"{path} is damaged; run `parapet front` again.") from None
    if version not in (_CONVERTED, SCHEMA_VERSION):
        raise InputError(f"{path} has schema version {version}, and this Parapet reads versions {_CONVERTED} and "
                         f"{SCHEMA_VERSION}; run `parapet full_evaluation` and `parapet front` again.")
    try:
        front = converted_front(front) if version == _CONVERTED else front
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged; run `parapet front` again.") from None
    if (problem := schemas.problem("front", front)) is not None:
        raise InputError(f"{path} is damaged ({problem}); run `parapet front` again.")
    return front
