"""SmallCNN, the reference network for MNIST of Zhang et al. 2019 (TRADES) and many later papers.

"Theoretically Principled Trade-off between Robustness and Accuracy"; the layers are those of the paper's code.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from parapet.genome import Genome
from parapet.models.backbones.blocks import SelfInitialised, activation_of
from parapet.models.backbones.body import Body, check_size

# The side of the smallest image of which two unpadded convolutions and a halving, twice, leave one pixel.
SMALLEST = 16


class SeededDropout(SelfInitialised):
    """Dropout (Srivastava et al. 2014) whose masks depend only on its own buffers.

    The global generator is not used, and a resumed training has to draw the same masks as an uninterrupted one: seed
    and number of draws are stored with the weights.
    """

    seed: Tensor
    draws: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the seed of the masks."""
        self.seed.copy_(torch.randint(2**62, (), generator=generator))

    def forward(self, features: Tensor) -> Tensor:
        """(N, ...) to the same shape; the identity in evaluation."""
        if not self.training:
            return features
        generator = torch.Generator().manual_seed(int(self.seed) + int(self.draws))
        self.draws += 1
        kept = torch.rand(features.shape, generator=generator) >= self.share
        return features * kept.to(features.device) / (1 - self.share)


def small_cnn(genome: Genome, image_shape: tuple[int, int, int], classes: int) -> Body:
    """Four convolutions of 32, 32, 64 and 64 channels, three linear layers; a stage ends after each pooling.

    Width and depth are the paper's. The last layer starts at random, the paper's at zero, with which an attack on the
    first batch would have no gradient.
    """
    check_size(image_shape, SMALLEST, "small_cnn")
    channels, height, width = image_shape
    height, width = (((size - 4) // 2 - 4) // 2 for size in (height, width))
    activation = partial(activation_of, genome.activation)
    head = nn.Sequential(nn.Flatten(), nn.Linear(64 * height * width, 200), activation(), SeededDropout(0.5),
                         nn.Linear(200, 200), activation(), nn.Linear(200, classes))
    return Body(nn.Identity(), (_stage(channels, 32, genome), _stage(32, 64, genome)), (32, 64), head)


def _stage(inputs: int, outputs: int, genome: Genome) -> nn.Sequential:
    activation = partial(activation_of, genome.activation)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), activation(), nn.Conv2d(outputs, outputs, 3), activation(),
                         nn.MaxPool2d(2))
