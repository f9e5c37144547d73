"""The lock on the backend of a cluster, where numbers of versions are drawn by several workers at once."""

from parapet.registry.mlflow_registry import MlflowRegistry
from tests.registry.promotions import take_turns
from tests.tracking.registry_dump import dump
from tests.tracking.test_postgresql import database, pytestmark, served  # noqa: F401  fixtures and when to skip


def test_many_promotions_at_once_take_turns_on_postgresql(served):  # noqa: F811  a fixture
    take_turns(MlflowRegistry(served.uri, "crowd"), 6, expiry=20)
    assert dump(served.uri)["crowd.promotion-lock"]["versions"] == {}
