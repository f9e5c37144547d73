"""Registers plugins: those of params.yaml, of the environment, and of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from parapet.catalogue import plugins
from parapet.disk import plain_yaml
from parapet.errors import InputError

# Modules with commas between them, for programs that read no params.yaml: the tasks of a cluster.
VARIABLE = "PARAPET_PLUGINS"


def register(environment: Mapping[str, str], params: Path | None = None) -> None:
    """Register what installed packages declare, what PARAPET_PLUGINS names, and what the file `params` lists.

    Modules are looked for in the working directory, those of `params` in its folder. A file that is missing or cannot
    be read is skipped here; reading its other values later reports what is wrong.
    """
    plugins.register_installed()
    try:
        plugins.register(filter(None, map(str.strip, environment.get(VARIABLE, "").split(","))), Path.cwd())
    except InputError as error:
        raise InputError(f"{VARIABLE}: {error}") from None
    if params is None or not params.is_file():
        return
    try:
        values = plain_yaml.read(params, "")
    except InputError:
        return
    listed = values.get("plugins") if isinstance(values, dict) else None
    if isinstance(listed, list) and all(isinstance(name, str) for name in listed):
        try:
            plugins.register(listed, params.parent)
        except InputError as error:
            raise InputError(f"{params}: {error}") from None
