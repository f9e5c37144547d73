"""The real MLflow of the tracking tests."""

from tests.tracking.conftest import (  # noqa: F401  fixtures
    _server,
    _working_directory,
    free_port,
    migrated,
    server,
    sqlite_uri,
    story,
)
