"""Adversarial weight perturbation: its length, its direction, and that it leaves no trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from parapet.errors import InputError
from parapet.training.weight_perturbation import perturbed
from tests.training.losses.two_pixels import small_network


def _case() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (small_network(torch.Generator().manual_seed(0)), torch.rand(16, 1, 4, 4, generator=generator),
            torch.randint(3, (16,), generator=generator))


def test_one_layer_by_hand() -> None:
    # w = (3, 4) has length 5; the loss w . x with x = (1, 0) has the gradient (1, 0): w + 0.1 * 5 * (1, 0).
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
        layer.bias.fill_(1.0)
    with perturbed(layer, lambda: layer(torch.tensor([[1.0, 0.0]])).sum(), 0.1) as loss:
        assert torch.allclose(layer.weight, torch.tensor([[3.5, 4.0]]))
        assert layer.bias.item() == 1.0
    assert float(loss) == 4.0 and not loss.requires_grad
    assert torch.equal(layer.weight, torch.tensor([[3.0, 4.0]]))


def test_every_weight_moves_by_its_share_and_comes_back_bit_for_bit() -> None:
    network, images, labels = _case()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with perturbed(network, lambda: cross_entropy(network(images), labels), 0.01):
        for name, parameter in network.named_parameters():
            moved = ((parameter - before[name]).norm() / before[name].norm().clamp(min=1e-12)).item()
            assert moved == pytest.approx(0.01 if parameter.dim() > 1 else 0.0, rel=1e-3), name
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("gamma", [1e-4, 1e-3, 5e-3])
def test_the_perturbed_loss_is_no_smaller(gamma: float) -> None:
    network, images, labels = _case()
    with perturbed(network, lambda: cross_entropy(network(images), labels), gamma) as plain:
        assert cross_entropy(network(images), labels) >= plain


def test_the_gradient_taken_inside_is_that_of_the_perturbed_weights() -> None:
    network, images, labels = _case()
    with perturbed(network, lambda: cross_entropy(network(images), labels), 0.05):
        moved = [parameter.detach().clone() for parameter in network.parameters()]
        cross_entropy(network(images), labels).backward()
    twin = _case()[0]
    with torch.no_grad():
        for parameter, value in zip(twin.parameters(), moved):
            parameter.copy_(value)
    cross_entropy(twin(images), labels).backward()
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(network.parameters(), twin.parameters()))


def test_a_gradient_asked_for_too_late_is_an_error() -> None:
    network, images, labels = _case()
    with perturbed(network, lambda: cross_entropy(network(images), labels), 0.05):
        loss = cross_entropy(network(images), labels)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_exception_leaves_no_trace_and_gamma_zero_does_nothing() -> None:
    network, images, labels = _case()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with pytest.raises(KeyError), perturbed(network, lambda: cross_entropy(network(images), labels), 0.05):
        raise KeyError
    with perturbed(network, lambda: cross_entropy(network(images), labels), 0.0):
        assert all(torch.equal(one, other) for one, other in zip(before, network.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters()))


def test_a_loss_that_some_weights_do_not_reach_or_that_is_flat_moves_nothing_to_nan() -> None:
    network, images, _ = _case()
    with perturbed(network, lambda: 0 * network[:6](images).sum(), 0.05):
        assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


@pytest.mark.parametrize("gamma", [-0.1, float("nan"), float("inf")])
def test_wrong_gammas_are_refused(gamma: float) -> None:
    network, images, labels = _case()
    with pytest.raises(InputError) as caught, perturbed(network, lambda: network(images).sum(), gamma):
        pass
    assert str(caught.value) == (f"the weight perturbation's gamma is {gamma:g}; it must be a finite number of at "
                                 "least 0.")


def test_the_loop_s_precision_does_not_hide_the_perturbation() -> None:
    model = torch.nn.Linear(8, 4, bias=False)
    inputs = torch.rand(16, 8, generator=torch.Generator().manual_seed(0))

    def loss() -> torch.Tensor:
        return model(inputs).float().square().sum()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), perturbed(model, loss, 0.5) as plain:
        assert float(loss().detach()) > 1.2 * float(plain)
