"""INT8: one file, any batch, nearly the same answers, and a graph that attacks can ask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from parapet.attacks import square
from parapet.deployment import GraphModel, export, footprint, predict, quantize, read_metadata, session
from parapet.genome import Genome
from tests.deployment.small_networks import small_network


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    """A float graph, its INT8 version, and images to calibrate on."""
    folder = tmp_path_factory.mktemp("graphs")
    export(small_network(Genome(backbone="residual", denoiser="mean")), folder / "float.onnx", opset=20,
           metadata={"id": "abc"})
    images = np.random.default_rng(0).random((128, 1, 8, 8), dtype=np.float32)
    quantize(folder / "float.onnx", folder / "int8.onnx", images)
    return folder / "float.onnx", folder / "int8.onnx", images


def test_it_is_one_file_of_integers_that_says_where_it_comes_from(graphs: tuple) -> None:
    before, after, _ = graphs
    assert sorted(path.name for path in after.parent.iterdir()) == ["float.onnx", "int8.onnx"]
    model = onnx.load(after)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    kinds = {array.data_type for array in model.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    metadata = read_metadata(after)
    assert metadata["derived_from"] == "abc" and metadata["quantization"]["format"] == "QDQ"
    assert read_metadata(before).items() <= metadata.items()


def test_it_answers_nearly_as_the_float_graph_in_batches_of_any_size(graphs: tuple) -> None:
    before, after, images = graphs
    expected, running = predict(session(before), images), session(after)
    for size in (1, 7, 128):
        found = predict(running, images, size)
        assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
        assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


def test_the_same_graph_and_images_give_the_same_bytes(graphs: tuple, tmp_path: Path) -> None:
    before, after, images = graphs
    quantize(before, tmp_path / "again.onnx", images)
    assert (tmp_path / "again.onnx").read_bytes() == after.read_bytes()


def test_an_attack_that_needs_no_gradients_breaks_it(graphs: tuple) -> None:
    model, images = GraphModel(graphs[1]), torch.from_numpy(graphs[2][:32])
    labels = model(images).argmax(1)
    found = square(model, images, labels, eps=0.5, queries=200, generator=torch.Generator().manual_seed(0))
    assert (model(found).argmax(1) == labels).float().mean() < 0.7
    assert (found - images).abs().max() <= 0.5 + 1e-6
    assert model(images[:0]).shape == (0, 10)


def test_what_a_graph_needs_besides_time(graphs: tuple) -> None:
    small, large = (footprint(path, (1, 8, 8), batch=batch) for path, batch in ((graphs[0], 1), (graphs[0], 20_000)))
    assert small["bytes"] == graphs[0].stat().st_size
    assert small["runtime_memory_bytes"] <= small["peak_memory_bytes"] < large["peak_memory_bytes"]
    # 20,000 images of 64 floats, and at least one map of them with 4 channels.
    assert large["peak_memory_bytes"] - small["peak_memory_bytes"] > 20_000 * 64 * 4
