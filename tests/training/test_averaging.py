"""The weights' moving average by hand, and what a checkpoint puts back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models import build
from parapet.training.averaging import weight_average
from parapet.training.learner import Learner


def test_the_average_by_hand() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = weight_average(layer, 0.9)
    nn.init.ones_(layer.weight)
    average.update_parameters(layer)  # decay min(0.9, 2/11): 0 * 2/11 + 1 * 9/11
    assert torch.isclose(average.module.weight, torch.tensor(9 / 11)).all() and layer.weight.item() == 1.0
    average.update_parameters(layer)  # decay min(0.9, 3/12)
    assert torch.isclose(average.module.weight, torch.tensor(1 - (2 / 11) * (3 / 12))).all()


def test_a_network_that_cannot_be_copied_is_told_with_what_to_do() -> None:
    layer = nn.utils.weight_norm(nn.Linear(2, 2))
    layer(torch.rand(1, 2))
    with pytest.raises(InputError, match="^training.weight_average needs a copy of the network, .* or set "
                                         "training.weight_average to 0.$"):
        weight_average(layer, 0.9)


def test_counters_are_copied_and_statistics_averaged() -> None:
    norm = nn.BatchNorm2d(2)
    average = weight_average(norm, 0.9)
    norm(torch.rand(4, 2, 3, 3))
    average.update_parameters(norm)
    assert int(average.module.num_batches_tracked) == 1
    assert not torch.equal(average.module.running_mean, torch.zeros(2))


def _learner(decay: float, seed: int) -> Learner:
    network = build(Genome(width=4, depth=1), (1, 8, 8), 10, generator=torch.Generator().manual_seed(seed))
    return Learner.of(network, None, learning_rate=0.1, weight_decay=0.0, decay=decay)


def test_without_a_decay_the_network_itself_is_validated_and_kept() -> None:
    learner = _learner(0.0, 0)
    assert learner.evaluated is learner.network
    assert learner.snapshot()["average"] == {} and int(learner.snapshot()["steps"]["average"]) == 0


def test_a_snapshot_puts_average_and_count_back() -> None:
    learner, other = _learner(0.9, 0), _learner(0.9, 1)
    nn.init.zeros_(learner.network.head[2].weight)
    learner.average.update_parameters(learner.network)
    snapshot = learner.snapshot()
    assert int(snapshot["steps"]["average"]) == 1
    other.restore(snapshot)
    for one in (learner, other):
        one.average.update_parameters(one.network)
    for name, value in learner.evaluated.state_dict().items():
        assert torch.equal(value, other.evaluated.state_dict()[name]), name
