"""Logits that say which class wins, and nothing that an attack could climb."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.attacks.maskers.base import Model, guarded


def logits_times_1000(network: Model) -> Model:
    """Cross-entropy that rounds to nothing."""
    return lambda images: network(images) * 1000


def logits_times_100(network: Model) -> Model:
    """What defensive distillation does to logits (Papernot et al. 2016; broken by Carlini and Wagner 2017)."""
    return lambda images: network(images) * 100


def logits_times_1e30(network: Model) -> Model:
    """Logits near the end of what float32 holds."""
    return lambda images: network(images) * 1e30


def rounded_logits(network: Model) -> Model:
    """Logits to one decimal: flat almost everywhere."""
    return lambda images: torch.round(network(images), decimals=0)


def one_hot(network: Model) -> Model:
    """Ten for the winner, nothing for the others."""
    return lambda images: 10 * nn.functional.one_hot(network(images).argmax(1), 10).float()


def one_hot_through(network: Model) -> Model:
    """The winner alone, with a gradient that looks like one: that of the softmax, to no use."""
    def model(images: Tensor) -> Tensor:
        logits = network(images)
        hard = 10 * nn.functional.one_hot(logits.argmax(1), 10).float()
        return hard + 1e-6 * (logits.sum(1, keepdim=True) * torch.ones_like(logits))
    return model


def clipped_logits(network: Model) -> Model:
    """Logits clipped where the winner is sure: flat around every clean image."""
    return lambda images: network(images).clamp(-0.5, 0.5)


def probabilities(network: Model) -> Model:
    """Softmax in front of the attacker's own."""
    return lambda images: network(images).softmax(1)


def clipped_around_the_second(network: Model) -> Model:
    """Logits clipped between the second largest one and a little more: flat wherever the winner is sure."""
    def model(images: Tensor) -> Tensor:
        logits = network(images)
        second = logits.detach().topk(2, 1).values[:, 1:]
        return torch.minimum(torch.maximum(logits, second), second + 0.5)
    return model


def saturated_logits(network: Model) -> Model:
    """Logits pressed to their limits by a tanh, whose slope float32 rounds to nothing."""
    return lambda images: 10 * torch.tanh(8 * network(images) / network(images).detach().abs().amax(1, keepdim=True))


def sigmoid_head(network: Model) -> Model:
    """A sigmoid for each class behind the logits, saturated wherever the winner is clear."""
    def model(images: Tensor) -> Tensor:
        logits = network(images)
        first, second = logits.detach().topk(2, 1).values.unbind(1)
        return torch.sigmoid(30 * (logits - ((first + second) / 2)[:, None]))
    return model


def hard_label_with_decoy(network: Model, smooth: Model) -> Model:
    """The label of one network, with the logits of another smooth one as confidence."""
    def model(images: Tensor) -> Tensor:
        with torch.no_grad():
            label = network(images).argmax(1)
        return guarded(smooth(images), label)
    return model


def hard_label_with_waves(network: Model) -> Model:
    """The label of the network, with a confidence that is a slow wave over the pixels and knows no class."""
    def model(images: Tensor) -> Tensor:
        with torch.no_grad():
            label = network(images).argmax(1)
        places = torch.arange(images[0].numel(), device=images.device)
        rows = torch.sin(places[None] * (1 + torch.arange(10, device=images.device)[:, None])) / 4
        return guarded(torch.sin(images.flatten(1) @ rows.T), label)
    return model
