"""Whose graph it is: a file that is damaged, changed, or of another candidate is told; and parity as a reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from parapet.config import Params, parse
from parapet.disk.files import file_digest
from parapet.errors import InputError
from parapet.promotion.gate import check_files, gate, parity
from tests.finished_search import members


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "artifacts")
    return tmp_path / "artifacts"


def refused(chosen: dict[str, Any], out: Path, advice: str = "run `parapet front` again") -> str:
    with pytest.raises(InputError) as caught:
        check_files(chosen, out)
    assert "\n" not in str(caught.value) and advice in str(caught.value)
    return str(caught.value)


def test_the_files_that_were_measured_are_let_through(out: Path) -> None:
    for chosen in members(out):
        check_files(chosen, out)


@pytest.mark.parametrize("damage", [lambda content: content[:len(content) // 2], lambda content: b"",
                                    lambda content: b"not a graph"])
def test_a_damaged_onnx_file_is_told(out: Path, damage: Any) -> None:
    chosen = members(out)[0]
    path = out / chosen["onnx"]
    path.write_bytes(damage(path.read_bytes()))
    assert refused(chosen, out).startswith(f"{path} is not the graph that was measured for candidate {chosen['id']}: "
                                           "it is damaged, and onnxruntime cannot load it; ")


def test_a_graph_that_could_not_be_looked_at_for_want_of_memory_is_not_called_damaged(
        out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(path: Path) -> None:
        raise MemoryError

    chosen = members(out)[0]
    (out / chosen["onnx"]).write_bytes(b"not a graph")
    monkeypatch.setattr("parapet.deployment.runtime.session", no_memory)
    with pytest.raises(MemoryError):
        check_files(chosen, out)


def test_files_that_are_not_there_are_told(out: Path) -> None:
    small, large = members(out)
    (out / small["onnx"]).unlink()
    assert "the graph of candidate" in (said := refused(small, out)) and "does not exist" in said
    (out / small["onnx"]).mkdir()
    assert "the graph of candidate" in (said := refused(small, out)) and "is a folder and no file" in said
    (out / large["weights"]).unlink()
    assert "the weights of candidate" in (said := refused(large, out, "dvc checkout")) and "does not exist" in said


def test_an_onnx_file_of_another_genome_is_told_with_both(out: Path) -> None:
    small, large = members(out)
    shutil.copyfile(out / large["onnx"], out / small["onnx"])
    assert (f"it holds the genome [{large['description']}], and not the genome [{small['description']}]"
            in refused(small, out))


def test_weights_that_were_changed_in_the_onnx_file_are_told(out: Path) -> None:
    import onnx
    from onnx import numpy_helper

    chosen = members(out)[0]
    path = out / chosen["onnx"]
    model = onnx.load(path)
    first = model.graph.initializer[0]
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) + 1, first.name))
    onnx.save_model(model, path)
    # What export wrote down is not asked, so that it cannot be forgotten either.
    (out / "search/candidates" / chosen["id"] / "export.json").unlink()
    expected = f"its SHA-256 is {file_digest(path)[:12]} instead of {chosen['sha256']['onnx'][:12]}"
    assert expected in refused(chosen, out)


def test_weights_that_are_not_those_that_were_attacked_are_told(out: Path) -> None:
    small, large = members(out)
    path = out / small["weights"]
    shutil.copyfile(out / large["weights"], path)
    said = refused(small, out, "bring it back with `dvc checkout`")
    assert said.startswith(f"{path} does not hold the weights that were attacked for candidate {small['id']}: its "
                           f"SHA-256 is {large['sha256']['weights'][:12]} instead of ")


def test_a_graph_beside_the_weights_that_is_another_than_the_one_that_ships_is_told(out: Path) -> None:
    # What is attacked and compared with torch is this one.
    small, large = members(out)
    path = (out / small["weights"]).parent / "model.onnx"
    shutil.copyfile(out / large["onnx"], path)
    assert refused(small, out, "dvc checkout").startswith(f"{path} is not the graph that was measured for candidate ")


@pytest.mark.parametrize("content", [None, "not json", "[]", "{}", '{"id": "another", "key": "k", "fingerprint": "f"}'])
def test_a_record_of_the_training_that_is_none_is_told(out: Path, content: str | None) -> None:
    chosen = members(out)[0]
    path = (out / chosen["weights"]).parent / "training.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert f"{path}, the record of the training of candidate {chosen['id']}, is missing, damaged or another" in \
        refused(chosen, out, "dvc checkout")


def test_a_latency_that_is_in_doubt_says_so(out: Path) -> None:
    chosen = members(out)[0]
    params = parse(Params, {"promotion": {"maximum_latency_ms": 1e-6}})
    chosen["latency_ms"]["noise"] = {"verdict": "quiet", "others": 0.0, "drift": 0.0, "reason": None}
    assert gate(chosen, params)[-1].endswith("above promotion.maximum_latency_ms 1e-06")
    chosen["latency_ms"]["noise"] = {"verdict": "busy", "others": 1.4, "drift": 0.0, "reason": "others took 140 %"}
    assert gate(chosen, params)[-1].endswith("1e-06 (timed while the machine was busy: others took 140 %)")


@pytest.mark.parametrize(("low", "latency", "verdict", "reasons"), [
    (0.4, 0.2, "pass", []), (0.7, 0.1, "warn", []), (0.399, 0.2, "pass", ["0.399, below"]),
    (0.4, 0.201, "pass", ["0.201 ms, above"]), (0.5, 0.1, "fail", ["the audit failed (masked)"]),
    (0.1, 1.0, "fail", ["the audit failed (masked)", "0.100, below", "1 ms, above"]),
])
def test_every_bar_that_is_not_cleared_is_a_reason_and_a_number_at_its_bar_clears_it(
        low: float, latency: float, verdict: str, reasons: list[str]) -> None:
    params = parse(Params, {"promotion": {"minimum_robust_accuracy": 0.4, "maximum_latency_ms": 0.2}})
    found = gate({"audit": {"verdict": verdict, "reasons": ["masked"]}, "test": {"robust_interval": [low, 0.9]},
                  "latency_ms": {"p50": latency}}, params)
    assert len(found) == len(reasons) and all(reason in sentence for reason, sentence in zip(reasons, found))


@pytest.mark.parametrize(("found", "sentence"), [
    (None, "front.json does not say whether the ONNX graph does what the network does; run `parapet full_evaluation` "
     "and `parapet front` again"),
    ({"verdict": "failed", "label_agreement": 0.98, "robust_difference": -0.021, "reason": "they part at stages.1."},
     "the ONNX graph does not do what the network does (they part at stages.1; labels agree on 98.00%, robust accuracy "
     "differs by 2.10 points)"),
])
def test_parity_that_did_not_hold_is_a_reason(found: dict[str, Any] | None, sentence: str) -> None:
    assert parity({"onnx_parity": found} if found else {}) == [sentence]


def test_parity_that_held_is_none() -> None:
    assert parity({"onnx_parity": {"verdict": "held", "label_agreement": 1.0, "robust_difference": 0.0,
                                   "reason": None}}) == []
