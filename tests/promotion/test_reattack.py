"""The gate's own attack on real graphs: forged numbers are refused, the lower one is kept, nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from parapet import cli
from parapet.disk.files import read_json
from parapet.errors import PromotionRefused
from parapet.intervals import wilson
from parapet.promotion import comparison, reattack
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.tracking.connection import connect
from tests.damage import forge, forge_evaluation
from tests.finished_search import SETTINGS
from tests.steps.test_promotion import members, out, params, promote, uri  # noqa: F401  fixtures
from tests.tracking.registry_dump import dump

Change = Callable[[dict[str, Any]], None]


def number_alone(record: dict[str, Any]) -> None:
    record["robust_accuracy"] = 0.97


def number_and_interval(record: dict[str, Any]) -> None:
    record |= {"robust_accuracy": 0.97, "robust_interval": list(wilson(194, 200))}


def every_outcome(record: dict[str, Any]) -> None:
    """All that is right when clean stands under every attack, and every number says so."""
    count, clean = record["outcomes"]["clean"].count("1"), record["outcomes"]["clean"]
    told = {"robust_accuracy": count / record["n"], "robust_interval": list(wilson(count, record["n"]))}
    record |= {**told, "outcomes": dict.fromkeys(record["outcomes"], clean)}
    for attack in record["attacks"].values():
        kind = "left" if attack["alone"] is None else "alone"
        attack |= {kind: told["robust_accuracy"], "interval": told["robust_interval"]}


def every_image(record: dict[str, Any]) -> None:
    """All images are right and stand."""
    record["outcomes"]["clean"] = "1" * record["n"]
    every_outcome(record)
    record |= {"clean_accuracy": record["robust_accuracy"], "clean_interval": record["robust_interval"]}


def fewer_images(record: dict[str, Any]) -> None:
    """Only 50 of the images were attacked."""
    record["n"], record["outcomes"] = 50, {name: row[:50] for name, row in record["outcomes"].items()}
    every_outcome(record)
    count = record["outcomes"]["clean"].count("1")
    record |= {"clean_accuracy": count / 50, "clean_interval": list(wilson(count, 50))}


def fit(out: Path, candidate: str, change: Change) -> None:  # noqa: F811
    """Forge an evaluation wherever it lies, front.json too, with every digest as somebody would who may write there."""
    def edit(result: dict[str, Any]) -> None:
        change(result["evaluation"])
        record, rows = result["evaluation"], [row for row in result["audit"]["rows"] if row < result["evaluation"]["n"]]
        result["audit"] |= {"rows": rows, "survived": "".join(record["outcomes"]["audit"][row] for row in rows)}
    forge_evaluation(out, candidate, edit)
    record = read_json(out / f"evaluation/{candidate}.json")["evaluation"]
    told = comparison.results.accuracies(record)

    def show(front: dict[str, Any]) -> None:
        for member in front["candidates"]:
            if member["id"] == candidate:
                member["test"] = told
    forge(out / "front.json", show)
    kept = out / f".parapet/evaluations/{candidate}/{candidate}.json"
    forge(kept, edit)


def test_an_audit_whose_verdict_was_edited_makes_no_champion(out: Path, uri: str) -> None:  # noqa: F811
    small, _ = members(out)
    worst = read_json(out / f"evaluation/{small}.json")["audit"]["verdict"]
    other = "fail" if worst == "pass" else "pass"
    forge_evaluation(out, small, lambda result: result["audit"].update(verdict=other))
    with pytest.raises(PromotionRefused, match=f"the audit's verdict is {other}, and its checks give {worst}; run"):
        promote(out, uri, small)


@pytest.mark.parametrize(("change", "sentence"), [
    (number_alone, r"evaluation/{small}.json: robust accuracy is 0.9700, and the outcomes give 0.\d+; run"),
    (number_and_interval, r"evaluation/{small}.json: robust accuracy is 0.9700, and the outcomes give 0.\d+; run"),
    (every_outcome, r"is unchanged: the recorded robust accuracy 0.\d+ is not reached: of 200 test images \d+ are "
     r"robust in the record, \d+ of which the rapid attack on the graph or its audit breaks \(seed \d+\), while it "
     r"does not break 0 that are broken in the record \(4 are allowed; one-sided exact sign test without them, "
     r"p = .*e-\d+, below promotion.significance 0.05\)"),
    (every_image, "the recorded clean accuracy is not reached: of 200 test images the graph gets"),
    (fewer_images, "is of 50 test images, and 200 were to be attacked"),
], ids=lambda value: getattr(value, "__name__", ""))
def test_an_evaluation_that_was_edited_makes_no_champion(
        out: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,  # noqa: F811
        change: Change, sentence: str) -> None:
    small, large = members(out)
    promote(out, uri, large)
    before = dump(uri)
    fit(out, small, change)
    with pytest.raises(PromotionRefused, match=sentence.format(small=small)):
        promote(out, uri, small)
    assert dump(uri) == before

    settings = out.parent / "params.yaml"
    settings.write_text(json.dumps(SETTINGS))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    line = ["promote", "--candidate", small, "--out", str(out), "--params", str(settings)]
    assert cli.main(line) == 3
    said = capsys.readouterr().err
    assert said.startswith("parapet: ") and said.count("\n") == 1
    assert dump(uri) == before and MlflowRegistry(uri, "parapet").aliased("champion").tags["candidate"] == large


def test_a_number_that_was_edited_in_front_json_alone_is_told(out: Path, uri: str) -> None:  # noqa: F811
    small, _ = members(out)

    def show(front: dict[str, Any]) -> None:
        for member in front["candidates"]:
            member["test"] |= {"robust_accuracy": 0.97, "robust_interval": list(wilson(194, 200))}
    forge(out / "front.json", show)
    with pytest.raises(PromotionRefused, match=rf"candidate {small} in .*front.json: robust accuracy is 0.9700, and "
                       r"the outcomes give 0.\d+; run"):
        promote(out, uri, small)
    assert dump(uri) == {}


def test_a_record_of_another_form_is_told(out: Path, uri: str) -> None:  # noqa: F811
    small, _ = members(out)
    forge_evaluation(out, small, lambda result: result["evaluation"]["outcomes"].update(clean=7))
    with pytest.raises(PromotionRefused, match="its form is another"):
        promote(out, uri, small)


def test_the_lower_number_goes_through_the_gate_into_the_tags_and_onto_the_card(out: Path, uri: str) -> None:  # noqa: F811
    _, large = members(out)
    found = promote(out, uri, large)["reattack"]
    record = read_json(out / f"evaluation/{large}.json")["evaluation"]
    assert found["recorded"] == record["robust_accuracy"] and found["n"] == 200
    assert found["kept"] <= min(found["recorded"], found["attacked"])
    version = connect(uri).get_model_version("parapet", "1")
    low, high = wilson(round(found["kept"] * 200), 200)
    assert version.tags["robust_accuracy"] == version.tags["gate.robust_kept"] == str(found["kept"])
    assert version.tags["robust_interval"] == f"{low} {high}"
    assert version.tags["gate.robust_recorded"] == str(found["recorded"])
    assert version.tags["gate.robust_attacked"] == str(found["attacked"])
    assert version.tags["gate.attack_seed"] == str(found["seed"]) != str(params().seed)
    assert f"| rapid\\_on\\_graph | {100 * found['kept']:.1f} % |" in version.description
    assert f"(rapid suite, seed {found['seed']}), {100 * found['attacked']:.1f} % of 200" in version.description
    # A bar between the two lower ends of the intervals is not cleared.
    bar = (low + record["robust_interval"][0]) / 2
    assert low < bar
    with pytest.raises(PromotionRefused, match=f"95 % interval is {low:.3f}, below promotion.minimum_robust_accuracy"):
        promote(out, uri, large, changes={"minimum_robust_accuracy": bar})


def test_the_graph_is_audited_in_depth_and_what_that_breaks_counts(out: Path, uri: str) -> None:  # noqa: F811
    small, _ = members(out)
    found = promote(out, uri, small, changes={"audit_images": 40})["reattack"]
    assert found["audit"] in ("pass", "warn")
    path, = out.glob(f".parapet/gate/*/{small}.json")
    kept = read_json(path)
    outcomes = kept["evaluation"]["outcomes"]
    assert set(outcomes) >= {"clean", "rapid", "audit"} and kept["audit"] == {"verdict": found["audit"], "failed": {}}
    assert outcomes["audit"].count("1") <= outcomes["rapid"].count("1")
    assert found["attacked"] == kept["evaluation"]["robust_accuracy"]
    version = connect(uri).get_model_version("parapet", "1")
    assert version.tags["gate.audit"] == found["audit"]
    assert f"The deep audit of the graph: {found['audit']}." in version.description
    # Without it the attack is another one.
    assert promote(out, uri, small)["reattack"]["audit"] is None
    assert MlflowRegistry(uri, "parapet").aliased("champion").tags["gate.audit"] == "none"


def test_a_graph_whose_deep_audit_fails_is_refused_with_its_checks(out: Path, uri: str,  # noqa: F811
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """What Parapet exports is honest, so the verdict is put in."""
    small, _ = members(out)
    of = reattack.Reattacked.of
    failed = {"verdict": "fail", "failed": {"copy": "A fresh copy falls.", "power": "The attack is too weak."}}
    monkeypatch.setattr(reattack.Reattacked, "of", lambda evaluation, found: of(evaluation, {**found, "audit": failed}))
    with pytest.raises(PromotionRefused, match=r"the deep audit of the graph failed \(copy: A fresh copy falls.\); the "
                       r"deep audit of the graph failed \(power: The attack is too weak.\)"):
        promote(out, uri, small)


def test_what_was_attacked_is_not_attacked_again_unless_it_is_damaged_or_the_occasion_is_another(
        out: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    small, _ = members(out)
    attacked, work = [], comparison.work

    def count(tasks: list[Any], *arguments: Any) -> None:
        attacked.append([task.name for task in tasks])
        work(tasks, *arguments)
    monkeypatch.setattr(reattack, "work", count)
    first = promote(out, uri, small)["reattack"]
    again = promote(out, uri, small)
    assert attacked == [[small]] and (again["reattack"], again["refreshed"]) == (first, False)

    path, = out.glob(f".parapet/gate/*/{small}.json")
    kept = read_json(path)
    damage = path.read_text().replace('"seed"', '"need"', 1)
    path.write_text(damage)
    told: list[str] = []
    assert promote(out, uri, small, tell=told.append)["reattack"] == first
    assert len(attacked) == 2 and told[0].startswith(f"{path} is damaged")
    found = read_json(path)
    assert found["evaluation"]["outcomes"] == kept["evaluation"]["outcomes"]  # the same seed, the same outcomes
    assert not list(path.parent.glob("*.state"))

    other = promote(out, uri, small, occasion="the week after")
    assert other["reattack"]["seed"] != first["seed"] and other["refreshed"] and len(attacked) == 3
    tags = MlflowRegistry(uri, "parapet").aliased("champion").tags
    assert tags["gate.attack_seed"] == str(other["reattack"]["seed"])
    assert tags["gate.attack_occasion"] == "the week after"


def test_the_champion_that_is_compared_with_is_attacked_too_and_told_of_where_its_number_is_not_reached(
        out: Path, uri: str) -> None:  # noqa: F811
    small, large = members(out)
    promote(out, uri, large)
    fit(out, large, every_outcome)
    # It is the champion itself:
    with pytest.raises(PromotionRefused, match="champion of parapet as version 1, no longer passes the gate: the "
                       r"recorded robust accuracy 0.\d+ is not reached"):
        promote(out, uri, large, occasion="the week after")
    # It stands in the way of another:
    told: list[str] = []
    with pytest.raises(PromotionRefused, match=r"worse than the champion .*; and of the champion \(version 1\), the "
                       r"recorded robust accuracy 0.\d+ is not reached"):
        promote(out, uri, small, tell=told.append)
    assert told[-1].startswith("and of the champion (version 1), the recorded robust accuracy")
    assert MlflowRegistry(uri, "parapet").aliases()["champion"] == "1"
    assert {path.stem for path in out.glob(".parapet/gate/*/*.json")} == {small, large}


def test_what_the_gate_kept_must_follow_from_its_own_outcomes(out: Path, uri: str) -> None:  # noqa: F811
    small, _ = members(out)
    promote(out, uri, small)
    path, = out.glob(f".parapet/gate/*/{small}.json")
    forge(path, lambda result: number_alone(result["evaluation"]))
    with pytest.raises(PromotionRefused, match="contradicts itself: robust accuracy is 0.9700, and the outcomes give"):
        promote(out, uri, small)


def test_a_graph_that_cannot_tell_classes_apart_is_told(out: Path, uri: str) -> None:  # noqa: F811
    small, _ = members(out)
    promote(out, uri, small)
    path, = out.glob(f".parapet/gate/*/{small}.json")
    forge(path, lambda result: result.update(ties="1" * 5 + "0" * 195))
    with pytest.raises(PromotionRefused, match=r"of 200 test images the graph's two highest logits lie within "
                       r"export.tolerance of each other on 5 \(allowed: 2%\)"):
        promote(out, uri, small)


def test_a_killed_attack_s_state_of_other_files_is_begun_anew(out: Path, uri: str) -> None:  # noqa: F811
    small, _ = members(out)
    promote(out, uri, small)
    path, = out.glob(f".parapet/gate/*/{small}.json")
    kept = read_json(path)
    path.unlink()
    (path.parent / f"{small}.state").mkdir()
    (path.parent / f"{small}.state/evaluation.json").write_text("{}")
    promote(out, uri, small)
    assert read_json(path)["evaluation"]["outcomes"] == kept["evaluation"]["outcomes"]
    assert not list(path.parent.glob("*.state"))


def test_two_at_once_attack_once(out: Path) -> None:  # noqa: F811
    small, _ = members(out)
    evaluation = read_json(out / f"evaluation/{small}.json")

    def attack(_: int) -> float:
        return reattack.reattack(params(), evaluation, out / "search/candidates" / small, out / f"onnx/{small}.onnx",
                                 out / "dataset", out / ".parapet", ["cpu"]).evaluation["evaluation"]["seconds"]
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(attack, range(2))
    assert first == second


def test_a_graph_of_another_network_than_the_weights_is_told(out: Path) -> None:  # noqa: F811
    small, large = members(out)
    evaluation = read_json(out / f"evaluation/{small}.json")
    found = reattack.reattack(params(), evaluation, out / "search/candidates" / small, out / f"onnx/{large}.onnx",
                              out / "dataset", out / ".parapet", ["cpu"])
    assert next(found.refusals(0.05)).startswith(
        "the ONNX graph does not do what the network of these weights does (on clean images logits differ by up to ")
    own = reattack.reattack(params(), evaluation, out / "search/candidates" / small, out / f"onnx/{small}.onnx",
                            out / "dataset", out / ".parapet", ["cpu"])
    assert list(own.refusals(0.05)) == []
