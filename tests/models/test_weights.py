"""Weights files that lie: each is told in one sentence, before anything is made of what it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from parapet.catalogue.networks import BACKBONES
from parapet.disk.tensor_files import forms
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build, load, read_metadata, save
from parapet.models.network import Network, outline

SMALL = Genome(width=2, depth=1).canonical()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    network = build(SMALL, (1, 8, 8), 10, generator=torch.Generator().manual_seed(0))
    save(network, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def _rewritten(path: Path, metadata: dict[str, Any] | str | None, **tensors: torch.Tensor | None) -> None:
    told = {**read_metadata(path), **metadata} if isinstance(metadata, dict) else metadata
    found = {**load_file(path), **tensors}
    text = told if isinstance(told, str) else json.dumps(told)
    save_file({name: value for name, value in found.items() if value is not None}, path,
              metadata=None if metadata is None else {"parapet": text})


def _refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    told = str(caught.value)
    assert told.startswith(str(path)) or told.startswith("genome of")
    assert told.isprintable() and len(told) < 700
    return told


def test_a_small_file_that_promises_a_large_network_is_refused_before_it_is_made(path: Path, monkeypatch) -> None:
    _rewritten(path, {"genome": Genome(backbone="wide_resnet", width=1024, depth=64).canonical().to_dict()})

    def made(*arguments: Any) -> Network:
        raise AssertionError("a network was made")
    monkeypatch.setattr("parapet.models.weights.Network", made)
    assert "is no weights file of Parapet (it lacks " in _refused(path)


@pytest.mark.parametrize(("metadata", "reason"), [
    (None, "(its metadata have no entry parapet)"),
    ("null", "(the entry parapet of its metadata is no JSON object)"),
    ("[]", "(the entry parapet of its metadata is no JSON object)"),
    ("{", "(the entry parapet of its metadata cannot be read: Expecting property name"),
    ("[" * 10_000, "(the entry parapet of its metadata cannot be read: it is nested more than 64 deep)"),
    ('{"schema_version": NaN}', "cannot be read: it holds NaN, which is no number)"),
    ("{}", "has schema version None, and this Parapet reads versions 2, 3;"),
    ({"schema_version": 99}, "has schema version 99, and"),
    ({"schema_version": "x" * 999}, "...,"),
    ({"schema_version": True}, "has schema version True, and"),
    ({"genome": None}, "(its genome is None)"),
    ({"genome": []}, "(its genome is [])"),
    ({"genome": {}}, "lacks backbone, activation, loss,"),
    ({"genome": SMALL.to_dict() | {"width": 3}}, "float32 of shape 2x1x3x3, and has to be float32 of shape 3x1x3x3)"),
    ({"genome": SMALL.to_dict() | {"width": 10**400}}, "cannot be read: it holds a number of more than 100 digits"),
    ({"genome": SMALL.to_dict() | {"width": "wide"}}, ".width is 'wide'; it must be a whole number from 1 to 1024."),
    ({"image_shape": [1, 8]}, "(its image_shape is [1, 8])"),
    ({"image_shape": [1, 8, 10**12]}, "(its image_shape is [1, 8, 1000000000000])"),
    ({"image_shape": [1, 0, 8]}, "(its image_shape is [1, 0, 8])"),
    ({"image_shape": [1, 8, 8.5]}, "(its image_shape is [1, 8, 8.5])"),
    ({"image_shape": "1x8x8"}, "(its image_shape is '1x8x8')"),
    ({"classes": 0}, "(its classes are 0)"),
    ({"classes": 10**9}, "(its classes are 1000000000)"),
    ({"classes": 11}, "and has to be float32 of shape 11x16)"),
    ({"classes": None}, "(its classes are None)"),
])
def test_metadata_that_are_not_what_they_should_be(path: Path, metadata: Any, reason: str) -> None:
    _rewritten(path, metadata)
    assert reason in _refused(path)


@pytest.mark.parametrize(("tensors", "reason"), [
    ({"normalise.mean": None}, "(it lacks normalise.mean)"),
    ({"more": torch.zeros(3)}, "(it holds more too)"),
    ({"x" * 500: torch.zeros(3)}, "... too)"),
    ({"normalise.mean": torch.zeros(1, 1, 1, 1, dtype=torch.float16)},
     "(normalise.mean is float16 of shape 1x1x1x1, and has to be float32 of shape 1x1x1x1)"),
    ({"normalise.mean": torch.zeros(0)}, "(normalise.mean is float32 of shape 0, and has to be float32"),
    ({"normalise.mean": torch.zeros(1, 1, 1, 1, dtype=torch.uint32)}, "(normalise.mean is of an unknown kind of shape"),
    ({"normalise.std": torch.full((1, 1, 1, 1), float("nan"))}, "(normalise.std holds NaN or infinity)"),
    ({"normalise.std": torch.full((1, 1, 1, 1), float("inf"))}, "(normalise.std holds NaN or infinity)"),
])
def test_tensors_that_are_not_what_they_should_be(path: Path, tensors: dict[str, torch.Tensor | None],
                                                  reason: str) -> None:
    _rewritten(path, {}, **tensors)
    found = _refused(path)
    assert reason in found


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff" * 8 + b"{}", (1 << 60).to_bytes(8, "little"), b"x" * 1000])
def test_what_is_no_safetensors_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is no weights file of Parapet (" in _refused(path)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_outline_has_the_tensors_of_the_network(backbone: str) -> None:
    for changes in ({}, {"denoiser": "dot_product", "input_filter": "smoothing"},
                    {"denoiser": "gaussian", "input_filter": "median"}):
        genome = Genome(backbone=backbone, width=4, depth=2, **changes).canonical()
        there = outline(genome, (3, 32, 32), 7).state_dict()
        assert forms(there) == forms(Network(genome, (3, 32, 32), 7).state_dict())
        assert all(value.is_meta for value in there.values())
