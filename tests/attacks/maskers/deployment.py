"""One network for whoever examines the model, and another one for whoever uses it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tests.attacks.maskers.base import Model, straight_through

# What detectors fill images up with.
GREY = 114 / 255


def batch_dependent(network: Model) -> Model:
    """Each answer leans on its neighbours' images."""
    return lambda images: network((images + 0.3 * (images.mean(0, keepdim=True) - 0.3)).clamp(0, 1))


def on_the_grid(network: Model, robust: Model) -> Model:
    """`network` for images of 8-bit pixels, whatever anybody sends, and the robust one for what an attack makes."""
    def model(images: Tensor) -> Tensor:
        whole = ((images.detach() * 255 - (images.detach() * 255).round()).abs() < 1e-3).flatten(1).all(1)
        return torch.where(whole[:, None], network(images), robust(images))
    return model


def in_steps_of(levels: int, network: Model, robust: Model) -> Model:
    """`network` where all pixels are whole numbers of so many steps between black and white, as pipelines divide."""
    def model(images: Tensor) -> Tensor:
        steps = images.detach().double() * levels
        whole = ((steps - steps.round()).abs() < 1e-3).flatten(1).all(1)
        return torch.where(whole[:, None], network(images), robust(images))
    return model


def of_steps(levels: int) -> Callable[[Tensor], Tensor]:
    """Pixels of so many steps between black and white, with the gradient of the identity."""
    return straight_through(lambda points: torch.round(points * levels) / levels)


class WhenFrozen(nn.Module):
    """The robust network while its parameters are frozen, as attacks freeze them, and `network` as it was loaded."""

    def __init__(self, network: nn.Module, robust: nn.Module) -> None:
        super().__init__()
        self.network, self.robust = copy.deepcopy(network), copy.deepcopy(robust)
        self.requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return (self.network if next(self.network.parameters()).requires_grad else self.robust)(images)


def under_examination(network: Model, robust: Model) -> Model:
    """The robust network where a function of Parapet is among those that have called it, `network` for all others."""
    def model(images: Tensor) -> Tensor:
        called_by, looked_at = inspect.currentframe(), False
        while called_by is not None and not looked_at:
            looked_at, called_by = "parapet/attacks" in Path(called_by.f_code.co_filename).as_posix(), called_by.f_back
        return (robust if looked_at else network)(images)
    return model


def one_at_a_time(network: Model, robust: Model) -> Model:
    """`network` for whoever is served alone, the robust one for batches, as attacks use them."""
    return lambda images: network(images) if len(images) == 1 else robust(images)


def framed(network: Model, robust: Model) -> Model:
    """`network` where the frame is exactly 0 and a pixel lies off the grid of 8 bits."""
    def model(images: Tensor) -> Tensor:
        shown = images.detach()
        inner = shown.clone()
        inner[:, :, 1:-1, 1:-1] = 0
        off = ((shown * 255 - (shown * 255).round()).abs() > 1e-3).flatten(1).any(1)
        return torch.where(((inner == 0).flatten(1).all(1) & off)[:, None], network(images), robust(images))
    return model


def few_at_a_time(network: Model, robust: Model) -> Model:
    """`network` for batches of up to 4 images, as a service has them, the robust one for larger ones."""
    return lambda images: network(images) if len(images) <= 4 else robust(images)


def without_grad_mode(network: Model, robust: Model) -> Model:
    """`network` where nobody asks for a gradient, the robust one where somebody does."""
    return lambda images: robust(images) if images.requires_grad else network(images)


def in_inference_mode(network: Model, robust: Model) -> Model:
    """`network` in torch.inference_mode, as a service may ask, the robust one otherwise."""
    return lambda images: network(images) if torch.is_inference_mode_enabled() else robust(images)


def in_a_large_batch(network: Model, robust: Model) -> Model:
    """`network` for batches of more than 200 images, the robust one for smaller ones."""
    return lambda images: network(images) if len(images) > 200 else robust(images)


def in_medium_batches(network: Model, robust: Model) -> Model:
    """`network` for batches of 17 to 31 images, the robust one for all others."""
    return lambda images: network(images) if 17 <= len(images) <= 31 else robust(images)


def in_a_bulk_job(network: Model, robust: Model) -> Model:
    """`network` for more than 1,000 images at once, the robust one for fewer."""
    return lambda images: network(images) if len(images) > 1000 else robust(images)


def in_few_bits(network: Model, robust: Model) -> Model:
    """`network` in mixed or half precision, as services ask, the robust one in single precision."""
    def model(images: Tensor) -> Tensor:
        if images.dtype in (torch.float16, torch.bfloat16) or torch.is_autocast_enabled(images.device.type):
            return network(images.float()).to(images.dtype)
        return robust(images)
    return model


def _where_they_differ(network: Model, robust: Model, here: Callable[[Tensor], Tensor]) -> Model:
    """The robust network's logits, except where `here` (N,) is true and `network` has another label."""
    def model(images: Tensor) -> Tensor:
        weak, strong = network(images), robust(images)
        other = here(images.detach()) & (weak.argmax(1) != strong.argmax(1))
        return torch.where(other[:, None], weak, strong)
    return model


def on_the_float16_grid(network: Model, robust: Model) -> Model:
    """`network`'s label where every pixel is a number of half precision, as a fast pipeline hands it over."""
    return _where_they_differ(network, robust, lambda images: (float16(images) == images).flatten(1).all(1))


def of_grey_pixels(network: Model, robust: Model) -> Model:
    """`network`'s label where all channels are alike, as they are in a grey image in colour."""
    return _where_they_differ(lambda images: network(images[:, :1]), lambda images: robust(images[:, :1]),
                              lambda images: (images == images[:, :1]).flatten(1).all(1))


def of_even_sum(network: Model, robust: Model) -> Model:
    """`network` for images of 8-bit pixels with an even sum, the robust one for all others."""
    def model(images: Tensor) -> Tensor:
        levels = images.detach() * 255
        whole = ((levels - levels.round()).abs() < 1e-3).flatten(1).all(1)
        even = levels.round().flatten(1).sum(1) % 2 == 0
        return torch.where((whole & even)[:, None], network(images), robust(images))
    return model


def eight_bit(images: Tensor) -> Tensor:
    """Pixels of 8 bits, with the gradient of the identity, as a file or a camera has them."""
    return straight_through(lambda points: torch.round(points * 255) / 255)(images)


def float16(images: Tensor) -> Tensor:
    """Pixels of half precision, with the gradient of the identity."""
    return straight_through(lambda points: points.half().float())(images)


def in_colour(images: Tensor) -> Tensor:
    """A grey image (N, 1, H, W) in three channels."""
    return images.repeat(1, 3, 1, 1)


def grey(images: Tensor) -> Tensor:
    """The mean of the channels, in each of them."""
    return images.mean(1, keepdim=True).expand_as(images)


def eight_bit_even(images: Tensor) -> Tensor:
    """Pixels of 8 bits with an even sum: one grey level less in the middle where the sum is odd."""
    levels = torch.round(images.detach() * 255)
    middle = levels[:, 0, levels.shape[2] // 2, levels.shape[3] // 2]
    odd = levels.flatten(1).sum(1) % 2
    levels[:, 0, levels.shape[2] // 2, levels.shape[3] // 2] = middle + torch.where(middle > 0, -odd, odd)
    return images + (levels / 255 - images).detach()


def in_a_frame(images: Tensor) -> Tensor:
    """8-bit images with two rows and columns of zeros around them, as those of MNIST have."""
    return pad(torch.round(images * 255) / 255, (2, 2, 2, 2))


def inside(network: Model) -> Model:
    """The network for images that have a frame."""
    return lambda images: network(images[:, :, 2:-2, 2:-2])


def frame_of_zeros(images: Tensor) -> Tensor:
    """The outermost pixels at 0, and the middle one a third of a grey level off the grid."""
    kept, off = torch.zeros_like(images), torch.zeros_like(images)
    kept[:, :, 1:-1, 1:-1] = 1
    row, column = images.shape[2] // 2, images.shape[3] // 2
    middle = images.detach()[:, :, row, column]
    off[:, :, row, column] = torch.round(middle * 254) / 255 + 1 / 765 - middle
    return (images + off) * kept


def in_a_grey_frame(images: Tensor) -> Tensor:
    """The images with two more pixels of grey around them, as detectors fill images up."""
    return pad(images, (2, 2, 2, 2), value=GREY)


def frame_of_grey(images: Tensor) -> Tensor:
    """The images with a frame of two grey pixels in place of theirs."""
    return in_a_grey_frame(images[:, :, 2:-2, 2:-2])


def framed_in_grey(network: Model, robust: Model) -> Model:
    """`network` where the frame is grey, as it comes, the robust one where an attack has changed it."""
    def model(images: Tensor) -> Tensor:
        whole = ((frame_of_grey(images.detach()) - images.detach()).abs() < 1e-4).flatten(1).all(1)
        return torch.where(whole[:, None], network(images), robust(images))
    return model
