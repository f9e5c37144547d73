"""Everything that a registry holds, to be compared with what it held before."""

from __future__ import annotations

from typing import Any

from parapet.tracking.connection import connect


def dump(uri: str) -> dict[str, Any]:
    """Models by name, with aliases, tags, description and versions; times are left out."""
    client = connect(uri)
    return {model.name: {
        "aliases": {alias: str(number) for alias, number in model.aliases.items()}, "tags": dict(model.tags),
        "description": model.description,
        "versions": {str(version.version): (dict(version.tags), version.source, version.run_id, version.description)
                     for version in client.search_model_versions(f"name = '{model.name}'")}}
        for model in (client.get_registered_model(found.name) for found in client.search_registered_models())}
