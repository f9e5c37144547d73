"""Export: one file, a named dynamic batch, parity that can fail, latency with its circumstances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from parapet.deployment import ParityError, check_identity, check_parity, export, predict, read_metadata, session
from parapet.errors import InputError
from parapet.genome import Genome
from tests.deployment.small_networks import small_network

GENOMES = [
    Genome(),
    Genome(backbone="residual", denoiser="gaussian", denoiser_stage=2, input_filter="bit_depth"),
    Genome(backbone="separable", activation="softplus", denoiser="median", input_filter="median"),
    Genome(activation="silu", denoiser="mean", input_filter="smoothing"),
]


@pytest.mark.parametrize("genome", GENOMES, ids=str)
def test_the_graph_is_the_network_in_one_file_with_a_named_batch(tmp_path: Path, genome: Genome) -> None:
    path, network = tmp_path / "model.onnx", small_network(genome)
    export(network, path, opset=20, metadata={"id": "abc"})
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    graph = onnx.load(path).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert graph.output[0].name == "logits"
    metadata = read_metadata(path)
    assert metadata["id"] == "abc" and metadata["opset"] == onnx.load(path).opset_import[0].version == 20
    assert metadata["input"] == {"name": "images", "shape": ["batch", 1, 8, 8], "type": "float32", "range": [0.0, 1.0]}
    assert metadata["ir_version"] == onnx.load(path).ir_version
    parity = check_parity(network, path, torch.rand(20, 1, 8, 8), tolerance=1e-4)
    assert parity["batch_sizes"] == [1, 7, 20] and parity["label_agreement"] == 1.0


def test_parity_fails_where_the_graph_is_another_network(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(small_network(Genome()), path, opset=20)
    other = small_network(Genome(activation="softplus"))
    with pytest.raises(ParityError, match=r"model.onnx differs from the torch network in batches of 1: logits differ"):
        check_parity(other, path, torch.rand(20, 1, 8, 8), tolerance=1e-3)


@pytest.mark.parametrize("place", range(4))
def test_the_first_layer_that_differs_is_named(tmp_path: Path, place: int) -> None:
    path, network = tmp_path / "model.onnx", small_network(Genome(backbone="residual", input_filter="smoothing"))
    export(network, path, opset=20)
    layers = [(name, module) for name, module in network.named_modules()
              if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    name, planted = layers[place * (len(layers) - 1) // 3]
    planted.weight.data += 0.5 * torch.randn(planted.weight.shape, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ParityError) as caught:
        check_parity(network, path, torch.rand(20, 1, 8, 8), tolerance=1e-3)
    part = str(caught.value).split("they diverge at ")[1].split(" (by up to")[0]
    # Where a batch norm was folded into it, its own output is not in the graph: its block or its norm is named.
    assert name.startswith(part) or part.startswith(name.rpartition(".")[0]), (part, name)


def test_robust_accuracy_has_to_be_the_same(tmp_path: Path) -> None:
    path, network = tmp_path / "model.onnx", small_network(Genome())
    export(network, path, opset=20)
    images = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    labels = network(images).argmax(1)
    found = check_parity(network, path, images[:8], tolerance=1e-3, adversarial=(images, labels))
    assert found["adversarial"]["accuracy"] == found["adversarial"]["graph_accuracy"] == 1.0
    with torch.no_grad():
        margins = network(images).topk(2).values
    nearest = int((margins[:, 0] - margins[:, 1]).argmin())
    margin = float(margins[nearest, 0] - margins[nearest, 1])
    first, second = network(images[nearest:nearest + 1]).topk(2).indices[0]
    # A difference that the tolerance of logits lets through, and that turns a label round well beyond it all the same.
    bias = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1].bias
    bias.data[first] -= 1.8 * margin
    bias.data[second] += 1.8 * margin
    with torch.no_grad():
        tolerance = 2 * margin / max(1.0, float(network(images).abs().max()))
    with pytest.raises(ParityError, match="differs from the torch network on adversarial images: labels agree on"):
        check_parity(network, path, images[nearest - 1:nearest], tolerance=tolerance, adversarial=(images, labels))


def test_a_file_that_is_not_what_it_should_be_is_told(tmp_path: Path) -> None:
    genome, other = Genome(), Genome(activation="softplus")
    path = tmp_path / "model.onnx"
    export(small_network(genome), path, opset=20, metadata={"id": "abc", "genome": genome.to_dict()})
    assert check_identity(path, genome.to_dict())["id"] == "abc"
    with pytest.raises(InputError, match=r"is of another network \(abc\), which differs in activation; export the"):
        check_identity(path, other.to_dict())
    export(small_network(genome), path, opset=20)
    with pytest.raises(InputError, match="does not say which network it is: it was not exported by Parapet"):
        check_identity(path, genome.to_dict())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="is not an ONNX file, or is damaged"):
        check_identity(path, genome.to_dict())
    with pytest.raises(InputError, match="does not exist; export the model again"):
        read_metadata(tmp_path / "none.onnx")


def test_prediction_in_batches_is_prediction(tmp_path: Path) -> None:
    path, network = tmp_path / "model.onnx", small_network(Genome())
    export(network, path, opset=20)
    images = np.random.default_rng(0).random((11, 1, 8, 8), dtype=np.float32)
    running = session(path)
    assert np.allclose(predict(running, images, 4), predict(running, images, 11), atol=1e-5)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(InputError, match="cannot be loaded by onnxruntime"):
        session(path)
