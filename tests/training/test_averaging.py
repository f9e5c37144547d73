"""The weights' moving average by hand, and that the network gets its own weights back."""

from __future__ import annotations

import torch
from torch import nn

from parapet.training.averaging import WeightAverage


def _layer(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_the_average_by_hand() -> None:
    layer = _layer(0.0)
    average = WeightAverage(layer, 0.9)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    average.update(layer)  # decay min(0.9, 2/11): 0 * 2/11 + 1 * 9/11
    assert torch.isclose(average.weights["weight"], torch.tensor(9 / 11)).all()
    average.update(layer)  # decay min(0.9, 3/12)
    assert torch.isclose(average.weights["weight"], torch.tensor(1 - (2 / 11) * (3 / 12))).all()


def test_the_network_holds_the_average_only_inside() -> None:
    layer = _layer(0.0)
    average = WeightAverage(layer, 0.5)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    average.update(layer)
    with average.in_place_of(layer):
        assert 0 < layer.weight.item() < 3
    assert layer.weight.item() == 3.0


def test_without_a_decay_there_is_no_average() -> None:
    layer = _layer(2.0)
    average = WeightAverage(layer, 0.0)
    average.update(layer)
    with average.in_place_of(layer):
        assert layer.weight.item() == 2.0
    assert average.weights == {}


def test_counters_are_copied_and_statistics_averaged() -> None:
    norm = nn.BatchNorm2d(2)
    average = WeightAverage(norm, 0.9)
    norm(torch.rand(4, 2, 3, 3))
    average.update(norm)
    assert int(average.weights["num_batches_tracked"]) == 1
    assert not torch.equal(average.weights["running_mean"], torch.zeros(2))
