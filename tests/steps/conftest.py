"""One tiny search, left alone, for all tests of the steps."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared import unchanged
from tests.steps.tiny import command
from tests.tracking.conftest import migrated  # noqa: F401  a fixture


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Iterator[Path]:
    """The folder of a finished search: search/, cache/, params.yaml."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(command(folder, digits_folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    yield from unchanged(folder)
