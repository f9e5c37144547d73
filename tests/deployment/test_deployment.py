"""Export: one file, a named dynamic batch, parity that can fail, latency with its circumstances."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from parapet.deployment import ParityError, check_parity, export, measure_latency, predict, session
from parapet.deployment.export import read_metadata
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build

GENOMES = [
    Genome(),
    Genome(backbone="residual", denoiser="gaussian", denoiser_stage=2, input_filter="bit_depth"),
    Genome(backbone="separable", activation="softplus", denoiser="median", input_filter="median"),
    Genome(activation="silu", denoiser="mean", input_filter="smoothing"),
]


def _network(genome: Genome, shape: tuple[int, int, int] = (1, 8, 8)):
    generator = torch.Generator().manual_seed(0)
    network = build(dataclasses.replace(genome, width=4, depth=1), shape, 10, generator=generator)
    for module in network.modules():  # statistics as after training, so that folding batch norm is put to the test
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


@pytest.mark.parametrize("genome", GENOMES, ids=str)
def test_the_graph_is_the_network_in_one_file_with_a_named_batch(tmp_path: Path, genome: Genome) -> None:
    path, network = tmp_path / "model.onnx", _network(genome)
    export(network, path, opset=20, metadata={"id": "abc"})
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    graph = onnx.load(path).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert graph.output[0].name == "logits"
    assert read_metadata(path) == {"id": "abc"}
    parity = check_parity(network, path, torch.rand(20, 1, 8, 8), tolerance=1e-4)
    assert parity["batch_sizes"] == [1, 7, 20] and parity["label_agreement"] == 1.0


def test_parity_fails_where_the_graph_is_another_network(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(_network(Genome()), path, opset=20)
    other = _network(Genome(activation="softplus"))
    with pytest.raises(ParityError, match="model.onnx differs from the torch network: logits by up to"):
        check_parity(other, path, torch.rand(20, 1, 8, 8), tolerance=1e-3)


def test_latency_is_told_with_its_circumstances(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(_network(Genome()), path, opset=20)
    latency = measure_latency(path, (1, 8, 8), batch=3, threads=1, warmup=2, runs=50, seconds=0.0)
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    assert latency["runs"] == 50 and latency["batch"] == 3 and latency["threads"] == 1
    assert latency["machine"] and latency["providers"] == ["CPUExecutionProvider"]


def test_prediction_in_batches_is_prediction(tmp_path: Path) -> None:
    path, network = tmp_path / "model.onnx", _network(Genome())
    export(network, path, opset=20)
    images = np.random.default_rng(0).random((11, 1, 8, 8), dtype=np.float32)
    running = session(path)
    assert np.allclose(predict(running, images, 4), predict(running, images, 11), atol=1e-5)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(InputError, match="cannot be loaded by onnxruntime"):
        session(path)
