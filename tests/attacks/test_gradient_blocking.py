"""Layers that block gradients are found, the innermost of them, and no others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parapet.attacks.adaptive import Bpda
from parapet.attacks.gradient_blocking import blocking_layers


class Rounding(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.round(images * 7) / 7


class Detached(nn.Module):
    """A block that hides its way back, around a layer that does not."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images).detach()


def _net(*before: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*before, nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def _points() -> Tensor:
    return torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_rounding_is_found_and_smooth_layers_are_not() -> None:
    rounding = Rounding()
    assert blocking_layers(_net(nn.Identity(), rounding), _points()) == [rounding]
    assert blocking_layers(_net(nn.Sigmoid(), nn.Conv2d(1, 1, 3, padding=1)), _points()) == []


def test_the_innermost_of_layers_in_layers_is_named() -> None:
    rounding, hidden = Rounding(), Detached(nn.Identity())
    assert blocking_layers(_net(nn.Sequential(nn.Identity(), rounding)), _points()) == [rounding]
    assert blocking_layers(_net(hidden), _points()) == [hidden]


def test_a_layer_that_answers_alike_to_all_is_none_to_go_around() -> None:
    class Zero(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros_like(images)
    assert blocking_layers(_net(Zero()), _points()) == []


def test_a_bare_callable_has_no_layers() -> None:
    assert blocking_layers(lambda images: images.flatten(1), _points()) == []


def test_no_hook_is_left_and_a_stand_in_for_it_has_a_gradient() -> None:
    net, points = _net(Rounding()), _points()
    through = Bpda(net, "identity", blocking_layers(net, points))
    assert all(not layer._forward_hooks for layer in net.modules())
    points.requires_grad_()
    assert torch.equal(through(points), net(points))
    gradient, = torch.autograd.grad(through(points).sum(), points)
    assert float(gradient.abs().max()) > 0
