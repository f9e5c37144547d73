"""Tensors that come back as they were written, or not at all."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from parapet.disk import sealed_tensors as tensors
from parapet.disk.sealed import Damaged

VALUES = {"a": torch.tensor([[1.0, float("nan")], [-0.0, 1e-40]]), "b": torch.tensor(3), "c": torch.empty(0, 2),
          "d": torch.tensor([True, False]), "e": torch.tensor([1.5], dtype=torch.bfloat16)}


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    tensors.save(VALUES, tmp_path / "x.safetensors", {"n": 1, "name": "ü"})
    found, about = tensors.load(tmp_path / "x.safetensors")
    assert about == {"n": 1, "name": "ü"} and found.keys() == VALUES.keys()
    for name, value in VALUES.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert tensors.digest({"": found[name]}, "") == tensors.digest({"": value}, "")


def test_the_same_tensors_are_the_same_bytes(tmp_path: Path) -> None:
    for number in range(20):
        tensors.save(VALUES, tmp_path / f"{number}.safetensors", {"n": 1, "name": "ü"})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("entry", ["", "{", "[]", "null", "7", '{"about": "{}"}', '{"about": {}, "sha256": ""}',
                                   '{"about": "{}", "sha256": null}', "[" * 5000])
def test_another_entry_is_no_checksum(tmp_path: Path, entry: str) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors", metadata={"parapet": entry})
    with pytest.raises(Damaged, match="it has no checksum|its checksum does not fit"):
        tensors.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("about", ["\ud800", "{\"a\": \"\udfff\"}"])
def test_half_a_character_is_no_text_of_ours(tmp_path: Path, about: str) -> None:
    entry = json.dumps({"about": about, "sha256": "0" * 64})
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", metadata={tensors._ENTRY: entry})
    with pytest.raises(Damaged, match="its checksum does not fit"):
        tensors.load(tmp_path / "a.safetensors")


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors.save(VALUES, path, {"n": 1})
    content, expected = path.read_bytes(), tensors.digest(*tensors.load(path)[:1], "")
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << random.Random(place).randrange(8)
        path.write_bytes(changed)
        try:
            found, about = tensors.load(path)
        except Damaged:
            continue
        assert tensors.digest(found, "") == expected and about == {"n": 1}


def test_other_files_are_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError):
        tensors.load(path)
    for content in (b"", b"torn", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(Damaged, match="it is no safetensors file: "):
            tensors.load(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(Damaged, match="it has no checksum"):
        tensors.load(path)
