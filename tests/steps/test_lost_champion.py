"""Aliases that point at versions which were deleted, and versions whose files are gone: what stands in nobody's way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from parapet.errors import InputError, PromotionRefused, WorkError
from parapet.promotion import environments, rollback
from parapet.registry.contents import Damaged
from parapet.registry.mlflow_registry import MlflowRegistry
from tests.steps.test_promotion import members, out, params, promote, uri  # noqa: F401  fixtures
from tests.tracking.lost_versions import lose


@pytest.fixture
def registry(out: Path, uri: str) -> MlflowRegistry:  # noqa: F811
    """The small member was champion, and the large one is."""
    for candidate in members(out):
        promote(out, uri, candidate)
    found = MlflowRegistry(uri, "parapet")
    assert found.aliases() == {"champion": "2", "previous": "1", "challenger": "2"}
    return found


def damage(out: Path, registry: MlflowRegistry, number: str) -> None:  # noqa: F811
    """Lose the graph of a version in the store of artifacts."""
    model = registry.version(number).tags["parapet.logged_model"]
    [graph] = [path for path in (out.parent / "mlruns").rglob("model.onnx") if model in path.parts]
    graph.unlink()


def test_a_deleted_champion_is_told_and_the_next_one_takes_its_alias(out: Path, uri: str,  # noqa: F811
                                                                     registry: MlflowRegistry) -> None:
    lose(registry, "2")
    told: list[str] = []
    outcome = promote(out, uri, members(out)[1], tell=told.append)
    assert told == ["the alias champion of parapet points at version 2, which was deleted, so there is no champion to "
                    "compare with; it will point at the new one"]
    assert (outcome["version"], outcome["previous"], outcome["moved"]) == ("3", None, True)
    assert registry.aliases() == {"champion": "3", "previous": "1", "challenger": "3"}
    assert registry.version("3").tags["gate.champion"] == "none"


def test_rollback_puts_the_one_before_a_deleted_champion_back(uri: str, registry: MlflowRegistry) -> None:  # noqa: F811
    lose(registry, "2")
    assert rollback.run(params(), uri=uri) == {"champion": "1", "previous": None}
    assert registry.aliases()["champion"] == "1" and "previous" not in registry.aliases()
    with pytest.raises(InputError, match="has no version with the alias previous, so there is nothing to roll back to"):
        rollback.run(params(), uri=uri)


def test_rollback_where_the_alias_of_the_champion_went_with_it(uri: str, registry: MlflowRegistry) -> None:  # noqa: F811
    registry.delete("2")
    assert "champion" not in registry.aliases()
    assert rollback.run(params(), uri=uri) == {"champion": "1", "previous": None}


def test_rollback_to_a_deleted_version_is_told_and_changes_nothing(uri: str, registry: MlflowRegistry) -> None:  # noqa: F811
    lose(registry, "1")
    with pytest.raises(InputError) as caught:
        rollback.run(params(), uri=uri)
    assert str(caught.value) == (
        "the alias previous of the registered model parapet points at version 1, which was deleted, so there is "
        "nothing to roll back to; promote another candidate, or point the alias at a version that is there.")
    assert registry.aliases()["champion"] == "2"


def test_rollback_to_a_damaged_version_is_told_and_changes_nothing(out: Path, uri: str,  # noqa: F811
                                                                   registry: MlflowRegistry) -> None:
    before = registry.aliases()
    damage(out, registry, "1")
    with pytest.raises(Damaged, match="version 1 of parapet is damaged: its model.onnx is missing; promote that"):
        rollback.run(params(), uri=uri)
    assert registry.aliases() == before


def test_a_damaged_champion_is_a_reason_until_it_is_allowed(out: Path, uri: str, registry: MlflowRegistry) -> None:  # noqa: F811
    registry.move_champion("1")
    damage(out, registry, "1")
    shutil.rmtree(out / ".parapet/champions")  # what the gate brought before is verified there, and would do
    large, before = members(out)[1], registry.aliases()
    with pytest.raises(PromotionRefused) as caught:
        promote(out, uri, large)
    assert ("the champion (version 1) cannot be attacked again: version 1 of parapet is damaged: its model.onnx is "
            "missing; promote that candidate again; give --allow-incomparable to promote without the comparison."
            ) in str(caught.value)
    assert registry.aliases() == before
    assert promote(out, uri, large, allow_incomparable=True)["moved"]


def test_a_damaged_champion_is_registered_anew_by_promoting_it(out: Path, uri: str,  # noqa: F811
                                                               registry: MlflowRegistry) -> None:
    damage(out, registry, "2")
    told: list[str] = []
    outcome = promote(out, uri, members(out)[1], tell=told.append)
    assert told == ["version 2 of parapet is damaged: its model.onnx is missing; promote that candidate again. It is "
                    "registered again."]
    assert outcome["moved"] and registry.aliases()["champion"] == outcome["version"] == "3"


def test_copying_a_deleted_or_damaged_champion_is_told(out: Path, uri: str, registry: MlflowRegistry) -> None:  # noqa: F811
    damage(out, registry, "2")
    with pytest.raises(WorkError, match="version 2 of parapet is damaged: its model.onnx is missing"):
        environments.copy_champion(params(), "parapet-prod", uri=uri)
    lose(registry, "2")
    with pytest.raises(InputError, match="parapet has no champion to copy: the alias points at version 2, which was "
                                         "deleted; promote one first."):
        environments.copy_champion(params(), "parapet-prod", uri=uri)
    assert not MlflowRegistry(uri, "parapet-prod").exists()


def test_a_copy_takes_the_place_of_a_deleted_champion(uri: str, registry: MlflowRegistry) -> None:  # noqa: F811
    prod = MlflowRegistry(uri, "parapet-prod")
    assert environments.copy_champion(params(), "parapet-prod", uri=uri)["version"] == "1"
    lose(prod, "1")
    outcome: dict[str, Any] = environments.copy_champion(params(), "parapet-prod", uri=uri)
    assert (outcome["version"], outcome["previous"], outcome["moved"]) == ("2", None, True)
    assert prod.aliases() == {"champion": "2"}


def test_a_store_whose_files_are_gone_is_one_whole_sentence(out: Path, uri: str, registry: MlflowRegistry) -> None:  # noqa: F811
    shutil.rmtree(out.parent / "mlruns")
    with pytest.raises(Damaged, match=r"the files of version 1 of parapet cannot be brought from file:.* \(.*No such"):
        rollback.run(params(), uri=uri)
