"""Updates the addresses of artifacts in a local MLflow whose project folder was moved or copied.

MLflow writes absolute paths into its SQLite file. In a copy they point into the original, whose artifacts would be read
and written from there. This is SQL because MlflowClient cannot do it: `update_run` and `update_model_version` change
names, states and descriptions, and no function sets the artifact address of an experiment, a run, a logged model or a
version. Reading is SQL too, because MlflowClient creates its tables in every database that it opens, refuses those of
another version of MLflow, and takes seconds to import at the start of every verb.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from parapet.errors import InputError

# Every column that holds an address of artifacts.
_COLUMNS = (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
            ("model_versions", "source"), ("model_versions", "storage_location"))
_DEFAULT_EXPERIMENT = "0"


def relocate(database: Path, root: Path) -> None:
    """Let the addresses of artifacts in the SQLite file `database` point into `root`, the folder beside it.

    They are changed where the project was moved, or copied with its artifacts. The address of MLflow's first experiment
    records where the database was created; artifacts that are stored elsewhere on purpose keep their addresses. Raises
    InputError where the database was copied without its artifacts.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=10)) as connection:
            row = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = ?",
                                     (_DEFAULT_EXPERIMENT,)).fetchone()
    except sqlite3.Error:
        return  # not a database of MLflow's, or busy: its next user reports that
    before = _root(row[0]) if row and row[0] else None
    # A folder of another name was given to MLflow on purpose.
    if before is None or before.name != root.name or before == root.resolve():
        return
    if before.exists() and root.exists() and before.samefile(root):
        return
    if before.exists() and not root.exists():
        raise InputError(f"{database} was copied from {before.parent} without the folder {root.name} beside it, so "
                         "that its runs would be read and written there; copy that folder too, or delete the file, or "
                         "set MLFLOW_TRACKING_URI to the database that you mean.")
    _rewrite(database, before, root.resolve())


def _root(location: str) -> Path | None:
    """The folder of artifacts, from the address of the first experiment in it."""
    try:
        parts = urlsplit(location)
    except ValueError:  # not the address of a folder
        return None
    if parts.scheme not in ("", "file"):
        return None
    path = Path(unquote(parts.path))
    return path.parent if path.name == _DEFAULT_EXPERIMENT else path


def _rewrite(database: Path, before: Path, after: Path) -> None:
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, column in _COLUMNS:
            if column not in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
                continue
            for old, new in ((str(before), str(after)), (before.as_uri(), after.as_uri())):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # nosec B608 # names from _COLUMNS alone
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"))
        connection.execute("COMMIT")
