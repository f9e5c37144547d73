"""A version that is deleted although an alias points at it, as older servers of MLflow leave it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.tracking.address import sqlite_path


def lose(registry: MlflowRegistry, number: str) -> None:
    """Delete a version; today's MLflow takes its aliases away too, so they are put back."""
    aliases = [alias for alias, pointed in registry.aliases().items() if pointed == number]
    registry.delete(number)
    with closing(sqlite3.connect(sqlite_path(registry.uri))) as database, database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(registered_model_aliases)")]
        values = {"alias": None, "version": int(number), "name": registry.model_name, "workspace": "default"}
        for alias in aliases:
            row = [alias if column == "alias" else values[column] for column in columns]
            database.execute(f"INSERT INTO registered_model_aliases ({', '.join(columns)}) VALUES "
                             f"({', '.join('?' * len(columns))})", row)
