"""Promotion on a real registry: who is chosen, who is let through, and that a refusal leaves everything as it was."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parapet.config import Params, parse
from parapet.disk.files import read_json, write_json
from parapet.errors import InputError, PromotionRefused
from parapet.promotion import choice, environments, rollback
from parapet.promotion.comparison import Comparison, Paired
from parapet.registry.contents import DIGEST_TAG
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.registration import ModelPackage, register
from parapet.steps import promotion
from parapet.tracking.connection import connect
from tests import finished_search
from tests.damage import forge, forge_evaluation, forge_search
from tests.finished_search import SETTINGS
from tests.tracking.registry_dump import dump


def params(**changes: Any) -> Params:
    return parse(Params, {**SETTINGS, "promotion": {"audit_images": 0, **changes}})


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "artifacts")
    return tmp_path / "artifacts"


@pytest.fixture
def uri(migrated: Path, tmp_path: Path) -> str:
    """An MLflow of its own, on a database without a server."""
    shutil.copyfile(migrated, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def members(out: Path) -> tuple[str, str]:
    """The small member and the large one."""
    small, large = finished_search.members(out)
    return small["id"], large["id"]


def promote(out: Path, uri: str, candidate: str, **options: Any) -> dict[str, Any]:
    changes = options.pop("changes", {})
    return promotion.run(params(**changes), out, uri=uri, candidate=candidate, artifact_root=out.parent / "mlruns",
                         **options)


def bare(out: Path, candidate: str) -> ModelPackage:
    """The graph of a candidate and nothing beside it, as an older version registered it."""
    return ModelPackage(out / f"onnx/{candidate}.onnx", np.zeros((2, 1, 8, 8), np.float32), {},
                    artifact_root=out.parent / "mlruns")


def champion_without_weights(out: Path, uri: str, candidate: str) -> None:
    """Make the bare graph of a candidate champion, as version 1."""
    registry, fingerprint = MlflowRegistry(uri, "parapet"), read_json(out / "front.json")["data"]["fingerprint"]
    registry.create_model()
    register(registry, bare(out, candidate), {"data_fingerprint": fingerprint}, "")
    registry.move_champion("1")


def change(out: Path, candidate: str, **values: Any) -> None:
    def fit(front: dict[str, Any]) -> None:
        for member in front["candidates"]:
            if member["id"] == candidate:
                member.update(values)
    forge(out / "front.json", fit)


def test_a_refused_promotion_says_each_reason_and_leaves_the_registry_as_it_was(out: Path, uri: str) -> None:
    small, _ = members(out)
    checks = [{"id": "noise", "verdict": "fail", "numbers": {}, "advice": "it is masked."}]

    def fail(result: dict[str, Any]) -> None:
        result["audit"] |= {"verdict": "fail", "checks": checks}
        result["onnx"] |= {"parity": "failed", "reason": "they part at head"}
    forge_evaluation(out, small, fail)
    shutil.rmtree(out / ".parapet/evaluations", ignore_errors=True)
    with pytest.raises(PromotionRefused) as caught:
        promote(out, uri, small, changes={"minimum_robust_accuracy": 0.9, "maximum_latency_ms": 1e-6})
    said = str(caught.value)
    for reason in ("parapet is unchanged: the audit failed (noise: it is masked.);", "below promotion.minimum_robust",
                   "above promotion.maximum_latency_ms", "(they part at head; labels agree"):
        assert reason in said
    held, client = dump(uri), connect(uri)
    assert list(held) == ["parapet.promotion-lock"] and held["parapet.promotion-lock"]["versions"] == {}
    experiment = client.get_experiment_by_name(params().tracking.experiment).experiment_id
    assert list(client.search_logged_models([experiment])) == []


def test_the_better_model_is_let_through_the_worse_one_refused_and_rollback_puts_it_back(out: Path, uri: str) -> None:
    small, large = members(out)
    registry = MlflowRegistry(uri, "parapet")
    assert promote(out, uri, small)["previous"] is None
    better = promote(out, uri, large)
    assert (better["version"], better["previous"], better["moved"]) == ("2", "1", True)
    assert better["comparison"]["robust"]["only_challenger"] > 20 and better["comparison"]["robust"]["p"] > 0.9
    tags = registry.version("2").tags
    assert (tags["candidate"], tags["gate"], tags["gate.champion"]) == (large, "passed", "1")

    before = dump(uri)
    with pytest.raises(PromotionRefused, match=r"worse than the champion \(version 2\) in robust accuracy"):
        promote(out, uri, small)
    assert dump(uri) == before
    assert promote(out, uri, large) == {"id": large, "reason": f"{large} was given by its id.", "version": "2",
                                        "previous": "2", "moved": False, "refreshed": False, "comparison": None,
                                        "reattack": better["reattack"]}
    assert dump(uri) == before

    assert rollback.run(params(), uri=uri) == {"champion": "1", "previous": "2"}
    assert rollback.run(params(), uri=uri) == {"champion": "2", "previous": "1"}
    assert environments.copy_champion(params(), "parapet-prod", uri=uri) == {
        "source": "2", "version": "1", "previous": None, "moved": True}
    assert not environments.copy_champion(params(), "parapet-prod", uri=uri)["moved"]
    copied = MlflowRegistry(uri, "parapet-prod").aliased("champion")
    assert copied.tags[DIGEST_TAG] == registry.version("2").tags[DIGEST_TAG]


def test_a_champion_of_another_search_is_attacked_again_by_today_s_suite_once(out: Path, uri: str) -> None:
    small, large = members(out)
    promote(out, uri, small)

    def forget() -> None:  # today's search does not know it
        ids = read_json(out / "search/front_ids.json")
        write_json(out / "search/front_ids.json", {**ids, "ids": [large]})
        shutil.rmtree(out / "search/candidates" / small)
    forge_search(out, forget)
    cache = out.parent / "cache"
    assert promote(out, uri, large, cache=cache)["moved"]
    attacked, = cache.glob(f"champions/*/evaluation-*/{small}.json")
    today = read_json(attacked)
    assert today["evaluation"]["n"] == SETTINGS["full_evaluation"]["images"]
    assert set(today["evaluation"]["attacks"]) >= {"fgsm", "apgd_ce", "square", "audit"}
    rollback.run(params(), uri=uri)
    assert promote(out, uri, large, cache=cache)["version"] == "2"
    assert read_json(attacked) == today
    # What full_evaluation did to the new model was taken from the artifacts.
    assert read_json(cache / "evaluations" / large / f"{large}.json") == read_json(out / f"evaluation/{large}.json")


def harder(out: Path, uri: str, candidate: str, **options: Any) -> dict[str, Any]:
    """A promotion with a suite that front.json was not measured by: another number of test images."""
    evaluation = {**SETTINGS["full_evaluation"], "images": 120}
    settings = parse(Params, {**SETTINGS, "full_evaluation": evaluation, "promotion": {"audit_images": 0, **options}})
    return promotion.run(settings, out, uri=uri, candidate=candidate, artifact_root=out.parent / "mlruns")


def test_the_gate_the_tags_and_the_card_are_of_today_s_suite_and_not_of_an_old_front(out: Path, uri: str) -> None:
    small, large = members(out)
    old = read_json(out / "front.json")
    with pytest.raises(PromotionRefused, match="the lower end of robust accuracy's 95 % interval is 0"):
        harder(out, uri, small, minimum_robust_accuracy=0.99)
    promote(out, uri, small)
    compared = harder(out, uri, large)["comparison"]
    assert compared["robust"]["n"] == compared["clean"]["n"] == 120
    registry = MlflowRegistry(uri, "parapet")
    today = read_json(out / f".parapet/evaluations/{large}/{large}.json")["evaluation"]
    tags = registry.version("2").tags
    assert tags["test_images"] == "120" and tags["gate.robust_recorded"] == str(today["robust_accuracy"])
    assert tags["robust_accuracy"] == tags["gate.robust_kept"]
    assert "n = 120" in connect(uri).get_model_version("parapet", "2").description
    assert read_json(out / "front.json") == old

    # Promoted again by the suite of before, the champion stays, and says what it is measured by now.
    again = promote(out, uri, large)
    assert (again["moved"], again["refreshed"], again["version"]) == (False, True, "2")
    assert registry.version("2").tags["test_images"] == "200"
    assert "n = 200" in connect(uri).get_model_version("parapet", "2").description
    rollback.run(params(), uri=uri)
    assert harder(out, uri, large)["version"] == "2"
    assert registry.version("2").tags["test_images"] == "120"


def test_an_alias_that_somebody_moved_meanwhile_is_told(out: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = members(out)
    promote(out, uri, small)
    registry = MlflowRegistry(uri, "parapet")
    register(registry, bare(out, large), {}, "")

    attack = promotion.attack

    def meanwhile(params: Params, challenger: str, champion: Path | None, *arguments: Any) -> list[dict[str, Any]]:
        if champion is not None:
            registry.point("champion", "2")
        return attack(params, challenger, champion, *arguments)
    monkeypatch.setattr(promotion, "attack", meanwhile)
    with pytest.raises(PromotionRefused, match="somebody moved the champion of parapet from version 1 to version 2"):
        promote(out, uri, large)
    assert registry.aliases() == {"champion": "2", "challenger": "1"} and registry.version("3") is None


def test_a_champion_that_cannot_be_compared_is_a_reason_until_it_is_allowed(out: Path, uri: str) -> None:
    small, large = members(out)
    promote(out, uri, small)
    registry = MlflowRegistry(uri, "parapet")
    registry.tag("1", {"data_fingerprint": "f" * 64})
    before = dump(uri)
    with pytest.raises(PromotionRefused, match=r"the champion \(version 1\) was trained on other data \(fingerprint "
                       "ffffffffffff instead of .*--allow-incomparable"):
        promote(out, uri, large)
    assert dump(uri) == before
    found = promote(out, uri, large, allow_incomparable=True)
    assert found["moved"] and found["comparison"] is None
    assert registry.version(found["version"]).tags["gate.comparison"] == "none"


def test_a_champion_without_weights_is_a_reason(out: Path, uri: str) -> None:
    small, large = members(out)
    champion_without_weights(out, uri, small)
    with pytest.raises(PromotionRefused, match="version 1\\) was registered without its weights"):
        promote(out, uri, large)


def test_a_champion_without_weights_gets_them_by_being_promoted_again(out: Path, uri: str) -> None:
    small, large = members(out)
    champion_without_weights(out, uri, small)
    again = promote(out, uri, small)
    assert (again["moved"], again["version"], again["previous"], again["comparison"]) == (True, "2", "1", None)
    assert promote(out, uri, large)["comparison"]["robust"]["n"] == 200


def test_cards_lie_with_the_version_and_with_the_run(out: Path, uri: str) -> None:
    small, _ = members(out)
    client = connect(uri)
    experiment = client.create_experiment("parapet", artifact_location=(out.parent / "mlruns").as_uri())
    run = client.create_run(experiment).info.run_id
    change(out, small, mlflow_run_id=run)
    promote(out, uri, small)
    assert {file.path for file in client.list_artifacts(run, "card")} == {"card/card.md", "card/card.html"}
    version = client.get_model_version("parapet", "1")
    assert version.run_id == run and version.description.startswith(f"# {small}: plain 4x1")
    place = Path(client.get_model_version_download_uri("parapet", "1").removeprefix("file://"))
    assert {"model.onnx", "model.safetensors", "training.json", "card.md", "card.html"} <= {
        path.name for path in place.iterdir()}


def test_rollback_without_a_champion_before_is_told(out: Path, uri: str) -> None:
    with pytest.raises(InputError, match="the registered model parapet has no version with the alias champion"):
        rollback.run(params(), uri=uri)
    assert dump(uri) == {}
    promote(out, uri, members(out)[0])
    before = dump(uri)
    with pytest.raises(InputError, match="has no version with the alias previous, so there is nothing to roll back to"):
        rollback.run(params(), uri=uri)
    assert dump(uri) == before


def test_copying_needs_a_champion_and_another_name(uri: str) -> None:
    with pytest.raises(InputError, match="parapet has no champion to copy"):
        environments.copy_champion(params(), "parapet-prod", uri=uri)
    with pytest.raises(InputError, match="which is the model to copy from"):
        environments.copy_champion(params(), "parapet", uri=uri)
    with pytest.raises(InputError, match="cannot name a registered model"):
        environments.copy_champion(params(), "a/b", uri=uri)
    with pytest.raises(InputError, match="names that end in .promotion-lock are those of the queues"):
        environments.copy_champion(params(), "parapet.promotion-lock", uri=uri)


def entry(name: str, derived_from: str | None = None, robust: float = 0.5) -> dict[str, Any]:
    block = {"n": 100, "clean_accuracy": 0.9, "clean_interval": [0.8, 0.95], "robust_accuracy": robust,
             "robust_interval": [robust - 0.1, robust + 0.1]}
    return {"id": name, "derived_from": derived_from, "validation": block, "flops": 1000, "params": 10,
            "latency_ms": {"p50": 0.1}}


def test_variants_are_not_chosen_and_an_id_may_be_shortened() -> None:
    front = {"candidates": [entry("aa1"), entry("ab2", robust=0.6)], "variants": [entry("aa1-int8", "aa1", robust=0.9)]}
    assert choice.choose(front, "robust_accuracy >= 0, then most robust_accuracy")[0]["id"] == "ab2"
    assert choice.choose(front, "", "ab")[0]["id"] == "ab2"
    for wrong, sentence in (("aa1-int8", "aa1-int8 is a variant of aa1, of whose robustness only an upper bound is "
                             "known; promote aa1."),
                            ("a", "'a' is the beginning of more than one member of the front; its members are aa1, "
                             "ab2."),
                            ("zz", "'zz' is not the id of a member of the front; its members are aa1, ab2."),
                            ("", "'' is not the id of a member of the front; its members are aa1, ab2.")):
        with pytest.raises(InputError) as caught:
            choice.choose(front, "", wrong)
        assert str(caught.value) == sentence


def test_what_was_paired_is_plain_data() -> None:
    assert asdict(Comparison(Paired(1, 0, 0, 1.0), Paired(1, 0, 0, 1.0)))["robust"]["p"] == 1.0
