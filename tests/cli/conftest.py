"""A real MLflow server for the verbs that need a registry."""

from tests.tracking.conftest import _server, migrated, server  # noqa: F401  fixtures
