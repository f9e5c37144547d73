"""ONNX models of two logits, small enough to register many of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.registration import ModelPackage, register

EXAMPLE = np.zeros((2, 1, 4, 4), np.float32)


def write_model(path: Path, bias: float) -> Path:
    """Mean over the pixels plus a bias, as two logits; any number of images."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]),
         helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"])],
        "tiny", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("weight", TensorProto.FLOAT, [16, 2], [1 / 16] * 32),
         helper.make_tensor("bias", TensorProto.FLOAT, [2], [bias, -bias])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save_model(model, path)
    return path


def package(folder: Path, bias: float, story, run_id: str | None = None, **files: str) -> ModelPackage:
    """A model with this bias, and text files beside it by their names without the suffix."""
    beside = {}
    for name, text in files.items():
        beside[f"{name}.md"] = folder / f"{name}-{bias}.md"
        beside[f"{name}.md"].write_text(text)
    return ModelPackage(write_model(folder / f"{bias}.onnx", bias), EXAMPLE, beside, run_id, story.experiment,
                    story.artifact_root)


def registered(uri: str, story, folder: Path, count: int, name: str | None = None) -> MlflowRegistry:
    """A registered model with so many versions, whose biases are 1, 2 and so on."""
    registry = MlflowRegistry(uri, name or f"model {story.id}")
    registry.create_model()
    for bias in range(1, count + 1):
        register(registry, package(folder, bias, story), {}, "")
    return registry
