"""Defences that were published and broken: transformations of the input, votes, codes, neighbours.

Broken by Athalye et al. 2018 ("Obfuscated Gradients Give a False Sense of Security"), by Tramèr et al. 2020 ("On
Adaptive Attacks to Adversarial Example Defenses"), or both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot, pad, softmax

from tests.attacks.maskers.base import Model, Networks


class Winners(nn.Module):
    """k-winners-take-all: the largest `share` of an image's activations, all others 0 (Xiao et al. 2020)."""

    def __init__(self, share: float = 0.2) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        """Of the same shape."""
        flat = values.flatten(1)
        least = flat.topk(max(1, int(self.share * flat.shape[1])), 1).values[:, -1:]
        return (flat * (flat >= least)).reshape(values.shape)


def winners_network() -> nn.Sequential:
    """A small network with `Winners` for images (N, 1, 8, 8), not yet trained."""
    return nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), Winners(), nn.Conv2d(32, 32, 3, stride=2, padding=1),
                         Winners(), nn.Flatten(), nn.Linear(512, 64), Winners(), nn.Linear(64, 10))


def smoothed(network: Model, deviation: float = 0.03, draws: int = 6) -> Model:
    """The mean of the logits around an image: slopes that lead somewhere where those of the network are shattered."""
    def model(images: Tensor) -> Tensor:
        noise = torch.randn(draws, *images.shape[1:], generator=torch.Generator().manual_seed(0)) * deviation
        return torch.stack([network(images + one) for one in noise]).mean(0)
    return model


def _cosines(size: int) -> Tensor:
    places, waves = torch.arange(size)[None] + 0.5, torch.arange(size)[:, None]
    rows = torch.cos(math.pi * places * waves / size) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


def jpeg(images: Tensor) -> Tensor:
    """The cosine transform of the whole image, its coefficients rounded the more, the finer the wave (Guo 2018)."""
    rows = _cosines(images.shape[-1])
    step = 0.1 + 0.06 * (torch.arange(len(rows))[:, None] + torch.arange(len(rows))[None])
    return (rows.T @ (torch.round(rows @ images @ rows.T / step) * step) @ rows).clamp(0, 1)


def median(images: Tensor) -> Tensor:
    """The median of a pixel, counted three times, and its four neighbours (feature squeezing, Xu et al. 2018)."""
    wide = pad(images, (1, 1, 1, 1), mode="replicate")
    beside = [wide[:, :, :-2, 1:-1], wide[:, :, 2:, 1:-1], wide[:, :, 1:-1, :-2], wide[:, :, 1:-1, 2:]]
    return torch.stack([*beside, images, images, images]).median(0).values


def purified(known: Tensor, directions: int = 24) -> Model:
    """The nearest point of the plane through the training images (PixelDefend and Defense-GAN in small)."""
    flat = known.flatten(1)
    centre = flat.mean(0)
    plane = torch.linalg.svd(flat - centre, full_matrices=False).Vh[:directions]

    def change(images: Tensor) -> Tensor:
        return ((images.flatten(1) - centre) @ plane.T @ plane + centre).reshape(images.shape).clamp(0, 1)
    return change


def quilted(known: Tensor) -> Model:
    """Every 2x2 patch replaced by the nearest one of the training images (image quilting, Guo et al. 2018)."""
    bank = nn.functional.unfold(known[:60], 2, stride=2).transpose(1, 2).flatten(0, 1)

    def change(images: Tensor) -> Tensor:
        patches = nn.functional.unfold(images, 2, stride=2).transpose(1, 2)
        nearest = torch.cdist(patches, bank[None].expand(len(images), -1, -1)).argmin(2)
        return nn.functional.fold(bank[nearest].transpose(1, 2), list(images.shape[2:]), 2, stride=2)
    return change


def voting(members: list[Model]) -> Model:
    """How many networks vote for each class; the first member's vote weighs a little more, so that no vote is tied."""
    weights = [1.1, *[1.0] * (len(members) - 1)]

    def model(images: Tensor) -> Tensor:
        votes = [weight * one_hot(member(images).argmax(1), 10).float() for weight, member in zip(weights, members)]
        return torch.stack(votes).sum(0) + 0 * images.flatten(1).sum(1, keepdim=True)
    return model


def together_soft(members: list[Model]) -> Model:
    """The mean of the log-probabilities of several networks."""
    return lambda images: torch.stack([log_softmax(member(images), 1) for member in members]).mean(0)


def _codes() -> Tensor:
    """Ten words of 16 bits that differ in 8 places each (rows of a Hadamard matrix), as 0 and 1."""
    matrix = torch.ones(1, 1)
    for _ in range(4):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return (matrix[1:11] + 1) / 2


def codes(network: Model, sharpness: float = 20.0, least: float = 1e-3) -> Model:
    """Error-correcting output codes: the log-likelihood of each word, with bits that are clipped before the logarithm
    (Verma and Swami 2019)."""
    words = _codes()

    def model(images: Tensor) -> Tensor:
        bits = (softmax(sharpness * network(images), 1) @ words).clamp(least, 1 - least)
        return bits.log() @ words.T + (1 - bits).log() @ (1 - words).T
    return model


def neighbours(networks: Networks, count: int = 5, heat: float | None = None) -> Model:
    """Votes of the nearest training images by the logits of the network (deep k-NN, Papernot and McDaniel 2018).

    With `heat` the differentiable stand-in: every training image votes, the less the further away.
    """
    with torch.no_grad():
        places, labels = networks.undefended(networks.known), one_hot(networks.known_labels, 10).float()

    def model(images: Tensor) -> Tensor:
        apart = torch.cdist(networks.undefended(images), places)
        if heat is not None:
            return torch.log(softmax(-apart / heat, 1) @ labels + 1e-6)
        nearest = apart.topk(count, 1, largest=False)
        # A tie goes to the class of the nearest.
        weights = torch.tensor([1.5, *[1.0] * (count - 1)])
        return (labels[nearest.indices] * weights[:, None]).sum(1) + 0 * images.flatten(1).sum(1, keepdim=True)
    return model


def another_answer_far_from_data(network: Model, smooth: Model, known: Tensor, radius: float) -> Model:
    """A detector: near the images that it knows the network answers, and elsewhere its label with a decoy around it.

    The distance to the known images is the L-inf distance of images that were blurred over 2x2 pixels.
    """
    places = nn.functional.avg_pool2d(known, 2).flatten(1)

    def model(images: Tensor) -> Tensor:
        logits = network(images)
        apart = torch.cdist(nn.functional.avg_pool2d(images.detach(), 2).flatten(1), places, p=torch.inf).amin(1)
        shown = smooth(images)
        rows = logits.detach().argmax(1, keepdim=True)
        others = shown.scatter(1, rows, -torch.inf).amax(1, keepdim=True)
        elsewhere = shown.scatter(1, rows, others + 1)
        return torch.where((apart <= radius)[:, None], logits, elsewhere)
    return model
