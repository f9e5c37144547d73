"""The graph that ships as a model: the graph's own answers, the network's gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from parapet.attacks.adaptive import Bpda, adapted, staircase
from parapet.attacks.compositions import named_suite
from parapet.attacks.gradients import input_gradient
from parapet.attacks.objectives import margin
from parapet.attacks.suite import evaluate
from parapet.deployment import export, predict, session
from parapet.deployment.shipped_graph import ShippedGraph
from parapet.errors import InputError
from parapet.genome import Genome
from tests.deployment.small_networks import small_network

IMAGES, LABELS = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(3)), torch.arange(12) % 10


def shipped(folder: Path, genome: Genome, other: Genome | None = None) -> ShippedGraph:
    """The graph of `genome` with the gradients of `other`."""
    export(small_network(genome), folder / "model.onnx", opset=20)
    return ShippedGraph(folder / "model.onnx", small_network(other or genome))


def test_it_answers_as_the_graph_bit_for_bit_with_and_without_gradients(tmp_path: Path) -> None:
    model = shipped(tmp_path, Genome(), Genome(activation="softplus"))
    expected = predict(session(tmp_path / "model.onnx"), IMAGES.numpy())
    np.testing.assert_array_equal(model(IMAGES).numpy(), expected)
    np.testing.assert_array_equal(model(IMAGES.clone().requires_grad_()).detach().numpy(), expected)
    assert not model(IMAGES).requires_grad


def test_its_gradients_are_those_of_the_network(tmp_path: Path) -> None:
    model = shipped(tmp_path, Genome())
    own, network = (input_gradient(each, IMAGES, LABELS, margin)[2] for each in (model, small_network(Genome())))
    torch.testing.assert_close(own, network)
    assert own.abs().max() > 0


def test_layers_that_declare_it_are_attacked_through_their_stand_ins(tmp_path: Path) -> None:
    model = shipped(tmp_path, Genome(input_filter="bit_depth"))
    wrapped, plain = adapted(model), staircase(model)
    assert isinstance(wrapped, Bpda) and isinstance(plain, Bpda)
    torch.testing.assert_close(wrapped(IMAGES.clone().requires_grad_()).detach(), model(IMAGES), rtol=0, atol=0)
    assert input_gradient(wrapped, IMAGES, LABELS, margin)[2].abs().max() > 0


def test_an_attack_s_state_is_of_one_graph_and_not_of_another_of_the_same_network(tmp_path: Path) -> None:
    options = {"norm": "linf", "eps": 0.1, "suite": named_suite("search")[:1], "state": tmp_path / "state"}
    evaluate(shipped(tmp_path, Genome()), IMAGES, LABELS, **options)
    with pytest.raises(InputError, match="it differs in the model"):
        evaluate(shipped(tmp_path, Genome(activation="silu"), Genome()), IMAGES, LABELS, **options)
