"""ONNX files: what they say of themselves, and whether they can be run."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import onnx
import torch

from parapet.deployment import check_identity, export, predict, read_metadata, session
from parapet.models import build
from tests.fuzz.mutations import VALUES, damaged, twisted
from tests.fuzz.part import Part, demand
from tests.fuzz.tensors import SEEDS


class Graphs(Part):
    """Blows to the bytes, and other nodes, types, shapes and metadata in a file that is still one of ONNX."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seeds, self.genomes = [], []
        for number, genome in enumerate(SEEDS[:3]):
            network = build(genome.canonical(), (1, 8, 8), 10, generator=torch.Generator().manual_seed(number)).eval()
            export(network, folder / "seed.onnx", opset=20, metadata={"genome": network.genome.to_dict(), "id": "abc"})
            self.seeds.append((folder / "seed.onnx").read_bytes())
            self.genomes.append(network.genome.to_dict())

    def make(self, chance: random.Random) -> bytes:
        content = chance.choice(self.seeds)
        if chance.random() < 0.5:
            return damaged(chance, content, self.seeds)
        model = onnx.load_from_string(content)
        for _ in range(chance.choice((1, 1, 2))):
            self._change(chance, model)
        return model.SerializeToString()

    @staticmethod
    def _change(chance: random.Random, model: onnx.ModelProto) -> None:
        graph, blow = model.graph, chance.randrange(9)
        node = chance.choice(graph.node) if graph.node else None
        if blow == 0 and node:
            node.op_type = chance.choice(("Relu", "Nope", "", "Conv", "Gemm", "Loop", "Cast", "ConstantOfShape"))
        elif blow == 1 and node and node.input:
            node.input[chance.randrange(len(node.input))] = chance.choice(("", "images", "logits", "nothing"))
        elif blow == 2 and node:
            graph.node.remove(node)
        elif blow == 3 and graph.initializer:
            tensor = chance.choice(graph.initializer)
            tensor.dims[:] = chance.choice(([0], [2**40], [1], [-1], [*tensor.dims, 7], []))
        elif blow == 4 and graph.initializer:
            chance.choice(graph.initializer).data_type = chance.choice((0, 1, 6, 7, 8, 9, 11, 99))
        elif blow == 5:
            size = graph.input[0].type.tensor_type.shape.dim[chance.randrange(4)]
            size.dim_value = chance.choice((0, -1, 1, 2**31, 2**62))
        elif blow == 6:
            model.opset_import[0].version = chance.choice((0, 1, 7, 99, 2**40))
        elif model.metadata_props:
            entry = next(entry for entry in model.metadata_props if entry.key == "parapet")
            if entry.value != "{" and entry.value and chance.random() < 0.8:
                entry.value = json.dumps(twisted(chance, json.loads(entry.value), VALUES))
            else:
                entry.value = chance.choice(("null", "{", "[]", "NaN", "1", ""))

    def check(self, content: bytes) -> None:
        path = self.put("model.onnx", content)
        metadata = read_metadata(path)
        demand(isinstance(metadata, dict), "metadata are no mapping")
        json.dumps(metadata, allow_nan=False)
        genome = next((genome for genome in self.genomes if genome == metadata.get("genome")), self.genomes[0])
        demand(check_identity(path, genome)["genome"] == genome, "another genome was taken")
        logits = predict(session(path), np.random.default_rng(0).random((3, 1, 8, 8), np.float32))
        demand(len(logits) == 3, f"3 images gave {len(logits)} rows")
