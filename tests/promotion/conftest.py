"""The finished search and the MLflow database of the tests of the steps."""

from tests.steps.conftest import migrated, undisturbed  # noqa: F401  fixtures
