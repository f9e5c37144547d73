"""From the finished search to the report and the gate: what each file claims is true."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parapet import schemas
from parapet.config import Params, parse
from parapet.data.dataset import Dataset
from parapet.deployment import check_identity, read_metadata, runtime
from parapet.disk import sealed
from parapet.disk.files import read_json, write_json
from parapet.disk.sealed import DIGESTS
from parapet.errors import InputError, WorkError
from parapet.models import load
from parapet.steps import front, full_evaluation, promotion, report
from parapet.store import front_file, results
from tests.damage import forge
from tests.steps.tiny import TINY

PARAMS = parse(Params, TINY)


@pytest.fixture(scope="module")
def artifacts(undisturbed: Path, digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifacts")
    shutil.copytree(digits_folder, out / "dataset")
    shutil.copytree(undisturbed / "search", out / "search")
    full_evaluation.run(PARAMS, out / "dataset", out / "search", out / "evaluation", devices=["cpu", "cpu"],
                        cache=out / "cache")
    front.run(PARAMS, out / "dataset", out / "search", out / "evaluation", out)
    report.run(PARAMS, out)
    return out


def test_front_json_meets_its_schema_and_names_files_that_exist(artifacts: Path) -> None:
    found = read_json(artifacts / "front.json")
    schemas.validate("front", found)
    for candidate in [*found["candidates"], *found["variants"], found["undefended"]]:
        for name in ("weights", "onnx", "evaluation"):
            assert (artifacts / candidate[name]).is_file()
        schemas.validate("evaluation", read_json(artifacts / candidate["evaluation"]))
        assert load(artifacts / candidate["weights"]).genome.to_dict() == candidate["genome"]
    assert found["undefended"]["genome"]["loss"] == "standard"


def test_every_onnx_file_scores_the_clean_accuracy_that_it_claims(artifacts: Path) -> None:
    images, labels = Dataset.open(artifacts / "dataset").split("test", limit=60).all()
    for candidate in entries(artifacts):
        logits = runtime.predict(runtime.session(artifacts / candidate["onnx"]), images.numpy())
        accuracy = float((logits.argmax(1) == labels.numpy()).mean())
        assert accuracy == candidate["test"]["clean_accuracy"]
        assert candidate["test"]["n"] == 60


def entries(artifacts: Path) -> list[dict[str, Any]]:
    """The members of the front, then their variants."""
    found = read_json(artifacts / "front.json")
    return [*found["candidates"], *found["variants"]]


def test_the_stored_adversarial_images_fool_the_exported_graph_too(artifacts: Path) -> None:
    for candidate in read_json(artifacts / "front.json")["candidates"]:
        replay = read_json(artifacts / candidate["evaluation"])["onnx"]
        assert replay["clean_accuracy"] == candidate["test"]["clean_accuracy"]
        assert replay["robust_accuracy"] == pytest.approx(candidate["test"]["robust_accuracy"], abs=1 / 60 + 1e-9)
        assert replay["label_agreement"] >= 0.98


def test_the_page_the_cards_and_the_tables_are_there(artifacts: Path) -> None:
    found = read_json(artifacts / "front.json")
    page = (artifacts / "report/index.html").read_text()
    for candidate in entries(artifacts):
        assert candidate["id"] in page
        for card in (f"report/cards/{candidate['id']}.md", f"report/cards/{candidate['id']}.html"):
            assert candidate["id"] in (artifacts / card).read_text(), card
    own = found["candidates"]
    assert len(read_json(artifacts / "plots/front.json")) == len(own)
    assert read_json(artifacts / "metrics.json")["front_size"] == len(own)


def test_every_member_has_an_int8_variant_beside_it(artifacts: Path) -> None:
    found = read_json(artifacts / "front.json")
    own, variants = {candidate["id"]: candidate for candidate in found["candidates"]}, found["variants"]
    assert all(candidate["derived_from"] is None and "-int8" not in name for name, candidate in own.items())
    assert sorted(variant["derived_from"] for variant in variants) == sorted(own)
    images, labels = Dataset.open(artifacts / "dataset").split("test", limit=60).all()
    for variant in variants:
        parent, test = own[variant["derived_from"]], variant["test"]
        assert variant["id"] == f"{parent['id']}-int8" and "upper bound" in variant["note"]
        assert variant["audit"]["verdict"] == "warn" and "upper bound" in variant["audit"]["reasons"][0]
        assert set(test["attacks"]) == {"transfer", "square"} and set(variant["validation"]["attacks"]) == {"transfer"}
        weakest = min(shares["alone"] for shares in test["attacks"].values())
        assert test["robust_accuracy"] <= weakest <= test["clean_accuracy"]
        logits = runtime.predict(runtime.session(artifacts / variant["onnx"]), images[:test["n"]].numpy())
        assert float((logits.argmax(1) == labels[:test["n"]].numpy()).mean()) == test["clean_accuracy"]
        assert variant["footprint"]["bytes"] == (artifacts / variant["onnx"]).stat().st_size
        assert read_metadata(artifacts / variant["onnx"])["derived_from"] == parent["id"]


def test_the_confusion_matrices_count_every_image_once(artifacts: Path) -> None:
    for candidate in read_json(artifacts / "front.json")["candidates"]:
        result = read_json(artifacts / candidate["evaluation"])
        for name, share in (("clean", "clean_accuracy"), ("adversarial", "robust_accuracy")):
            matrix = np.array(result["confusion"][name])
            assert matrix.shape == (10, 10) and matrix.sum() == result["evaluation"]["n"]
            assert np.trace(matrix) / matrix.sum() == pytest.approx(result["evaluation"][share])


def test_every_graph_answers_as_its_network_did_and_says_which_it_is(artifacts: Path) -> None:
    for candidate in entries(artifacts):
        metadata = check_identity(artifacts / candidate["onnx"], candidate["genome"])
        assert metadata["threat"] == str(PARAMS.threat)
        assert metadata["git_revision"] and metadata["input"]["range"] == [0.0, 1.0]
        if candidate["derived_from"] is None:
            assert candidate["onnx_parity"] == {"verdict": "held", "label_agreement": 1.0, "robust_difference": 0.0,
                                                "reason": None}
            exported = read_json(artifacts / "search/candidates" / candidate["id"] / "export.json")
            assert exported["parity"]["adversarial"]["images"] > 8


def test_the_same_evaluation_is_not_done_twice_and_another_one_is(artifacts: Path) -> None:
    def seconds() -> dict[str, float]:
        return {path.stem: read_json(path)["evaluation"]["seconds"]
                for path in (artifacts / "cache/evaluations").glob("*/*.json")}

    def evaluate(params: Params) -> None:
        full_evaluation.run(params, artifacts / "dataset", artifacts / "search", artifacts / "again", devices=["cpu"],
                            cache=artifacts / "cache")

    first = seconds()
    assert len(first) > 1
    left = [artifacts / "cache/evaluations" / name / f"{name}.0e3354535589.state" for name in first]
    for state in left:
        (state / "square").mkdir(parents=True)  # as a kill between the result and its end leaves it
    evaluate(PARAMS)
    assert seconds() == first and not any(state.exists() for state in left)
    evaluate(parse(Params, {**TINY, "full_evaluation": {**TINY["full_evaluation"], "pgd_steps": 4}}))
    assert all(value != first[name] for name, value in seconds().items())


def test_a_front_whose_audits_all_failed_is_an_error_and_not_an_empty_front(artifacts: Path, tmp_path: Path) -> None:
    shutil.copytree(artifacts, tmp_path / "artifacts")
    out = tmp_path / "artifacts"
    for path in (out / "evaluation").glob("*.json"):
        if path.name != DIGESTS:
            forge(path, lambda result: result["audit"].update(verdict="fail", checks=[
                {"id": "gradients", "verdict": "fail", "numbers": {}, "advice": "No gradient."}]))
    params = parse(Params, {**TINY, "front": {"keep_failed_audits": False}})
    with pytest.raises(WorkError, match="the audit failed every one of the .* gradients: No gradient"):
        front.run(params, out / "dataset", out / "search", out / "evaluation", out)


def _candidate(verdict: str = "pass", low: float = 0.7, latency: float = 0.1) -> dict:
    return {"audit": {"verdict": verdict, "reasons": ["noise: it is masked."]}, "latency_ms": {"p50": latency},
            "test": {"robust_interval": [low, 0.9]}}


GATE = parse(Params, {"promotion": {"minimum_robust_accuracy": 0.5, "maximum_latency_ms": 1.0}})


def test_the_gate_lets_a_good_model_through() -> None:
    assert promotion.gate(_candidate(), GATE) == []
    assert promotion.gate(_candidate("warn"), GATE) == []


@pytest.mark.parametrize(("candidate", "sentence"), [
    (_candidate(verdict="fail"), "the audit failed (noise: it is masked.)"),
    (_candidate(low=0.4), "is 0.400, below promotion.minimum_robust_accuracy 0.5"),
    (_candidate(latency=2.0), "is 2 ms, above promotion.maximum_latency_ms 1"),
])
def test_the_gate_says_each_reason(candidate: dict, sentence: str) -> None:
    refusals = promotion.gate(candidate, GATE)
    assert len(refusals) == 1 and sentence in refusals[0]


def test_a_front_of_another_version_is_refused(artifacts: Path, tmp_path: Path) -> None:
    old = {**read_json(artifacts / "front.json"), "schema_version": 4}
    sealed.write(tmp_path / "front.json", old)
    with pytest.raises(InputError, match="version 4, and this Parapet reads versions 6 and 7; run `parapet full_"):
        front_file.read(tmp_path / "front.json")
    (tmp_path / "front.json").write_text("[")
    with pytest.raises(InputError, match=r"front.json is damaged \(it is no JSON\); run `parapet front` again"):
        front_file.read(tmp_path / "front.json")


def test_attacks_that_met_survivors_only_have_no_number_of_their_own(artifacts: Path) -> None:
    for candidate in read_json(artifacts / "front.json")["candidates"]:
        result = read_json(artifacts / candidate["evaluation"])["evaluation"]
        right, attacks = result["outcomes"]["clean"].count("1"), candidate["test"]["attacks"]
        for name, shares in attacks.items():
            kind = "alone" if shares["left"] is None else "left"
            assert shares[kind] == result["attacks"][name][kind] == result["outcomes"][name].count("1") / result["n"]
            assert kind == "left" or result["attacks"][name]["attacked"] == right
        left = [shares["left"] for shares in attacks.values() if shares["left"] is not None]
        assert list(attacks)[-1] == "audit" and left == sorted(left, reverse=True)
        assert left[-1] == candidate["test"]["robust_accuracy"]


def _version_6(found: dict[str, Any]) -> dict[str, Any]:
    """As the versions before wrote it: variants among the candidates, one number for each attack."""
    def old(entry: dict[str, Any]) -> dict[str, Any]:
        return {**entry, "sha256": {**entry["sha256"]}, **{split: {**entry[split], "attacks": {
            name: shares["left"] if shares["alone"] is None else shares["alone"]
            for name, shares in entry[split]["attacks"].items()}} for split in ("validation", "test")}}
    front = {**found, "schema_version": 6, "search": {**found["search"]}, "undefended": old(found["undefended"]),
             "candidates": [old(entry) for entry in (*found["candidates"], *found["variants"])]}
    del front["variants"], front["checksum"], front["search"]["id"], front["search"]["sha256"]
    for entry in (front["undefended"], *front["candidates"]):
        del entry["sha256"]["evaluation"]
    return front


def _version_4(result: dict[str, Any]) -> dict[str, Any]:
    """evaluation/<id>.json as the versions before wrote it."""
    record = result["evaluation"]
    attacks = {name: {"accuracy": attack["left"] if attack["alone"] is None else attack["alone"],
                      "survivors_only": attack["alone"] is None,
                      **{key: value for key, value in attack.items() if key not in ("alone", "left")}}
               for name, attack in record["attacks"].items()}
    int8 = result["int8"] and {**result["int8"], **{
        split: {**result["int8"][split], "attacks": {name: shares["alone"] for name, shares in
                                                     result["int8"][split]["attacks"].items()}}
        for split in ("validation", "test")}}
    kept = {name: value for name, value in result.items() if name not in ("checksum", "digests")}
    return {**kept, "schema_version": 4, "int8": int8,
            "evaluation": {**record, "schema_version": 2, "attacks": attacks}}


def test_files_of_the_version_before_are_read_as_if_written_today(artifacts: Path, tmp_path: Path) -> None:
    out = tmp_path / "artifacts"
    shutil.copytree(artifacts, out)
    today = read_json(artifacts / "front.json")
    (out / "search" / DIGESTS).unlink()
    write_json(out / "front.json", _version_6(today))
    read = front_file.read(out / "front.json")
    lacking = {**today, "search": {name: value for name, value in today["search"].items()
                                   if name not in ("id", "sha256")}}
    del lacking["checksum"]
    for entry in (lacking["undefended"], *lacking["candidates"], *lacking["variants"]):
        del entry["sha256"]["evaluation"]
    assert read == lacking
    today = read_json(artifacts / "front.json")
    for path in (out / "evaluation").glob("*.json"):
        if path.name == DIGESTS:
            continue
        result = read_json(path)
        write_json(path, _version_4(result))
        assert results.read_evaluation(path, "") == {name: value for name, value in result.items()
                                                     if name not in ("checksum", "digests")}
    with pytest.raises(InputError, match="digests.json does not exist; run `parapet search` again, which takes what"):
        report.run(PARAMS, out)
    write_json(out / "front.json", {"schema_version": 6})
    with pytest.raises(InputError, match=r"front.json is damaged \(its form is another\); run `parapet front` again"):
        front_file.read(out / "front.json")
    # Without digests the outcomes of each image have to bear the numbers out.
    path = out / today["candidates"][0]["evaluation"]
    old = read_json(path)
    old["evaluation"]["robust_accuracy"] = 0.97
    write_json(path, old)
    with pytest.raises(InputError, match=r"is damaged \(robust accuracy is 0.9700, and the outcomes give 0\.\d+\)"):
        results.read_evaluation(path, "run")
