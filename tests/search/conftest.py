"""The finished search of the tests of the steps."""

from tests.steps.conftest import undisturbed  # noqa: F401  a fixture
