"""What every test of the pipelines needs."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _tests_outlive_commands() -> Iterator[None]:
    """Signal handlers and watchers belong to the process of a command, not to that of the tests which call it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.__main__.end_with_parent", lambda: None)
        patch.setattr("parapet.cli.end_with_parent", lambda: None)
        yield
