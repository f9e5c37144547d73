"""Whose graph it is: a file that is damaged, changed, or of another candidate is told; and parity as a reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from parapet.errors import InputError
from parapet.steps.gate import check_graph, parity
from tests.finished_search import members


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "artifacts")
    return tmp_path / "artifacts"


def refused(chosen: dict[str, Any], out: Path) -> str:
    with pytest.raises(InputError) as caught:
        check_graph(chosen, out)
    assert "\n" not in str(caught.value) and "run `parapet front` again" in str(caught.value)
    return str(caught.value)


def test_the_file_that_was_measured_is_let_through(out: Path) -> None:
    for chosen in members(out):
        assert check_graph(chosen, out) == out / chosen["onnx"]


@pytest.mark.parametrize("damage", [lambda content: content[:len(content) // 2], lambda content: b"",
                                    lambda content: b"not a graph"])
def test_a_damaged_onnx_file_is_told(out: Path, damage: Any) -> None:
    chosen = members(out)[0]
    path = out / chosen["onnx"]
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path}, the graph of candidate {chosen['id']}, is damaged" in refused(chosen, out)


def test_an_onnx_file_that_is_not_there_is_told(out: Path) -> None:
    chosen = members(out)[0]
    (out / chosen["onnx"]).unlink()
    assert "does not exist" in refused(chosen, out)


def test_an_onnx_file_of_another_genome_is_told_with_both(out: Path) -> None:
    small, large = members(out)
    shutil.copyfile(out / large["onnx"], out / small["onnx"])
    said = refused(small, out)
    assert f"holds the genome [{large['description']}]" in said
    assert f"but candidate {small['id']} is the genome [{small['description']}]" in said


def test_weights_that_were_changed_in_the_onnx_file_are_told(out: Path) -> None:
    import onnx
    from onnx import numpy_helper

    chosen = members(out)[0]
    path = out / chosen["onnx"]
    model = onnx.load(path)
    first = model.graph.initializer[0]
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) + 1, first.name))
    onnx.save_model(model, path)
    assert f"is not the graph that was measured for candidate {chosen['id']}: its SHA-256 is" in refused(chosen, out)


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
