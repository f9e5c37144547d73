"""What every masker is made of: the networks behind it, and how its truth is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Networks:
    """The networks that maskers are built from, all for the same images (N, 1, 8, 8) of 10 classes.

    `undefended`, `second` and `third` were trained on clean images with three seeds, `robust` by PGD, `winners` with
    k-winners-take-all activations. `known` (M, 1, 8, 8) and `known_labels` (M,) are images of the training split.
    """

    undefended: nn.Module
    second: nn.Module
    third: nn.Module
    robust: nn.Module
    winners: nn.Module
    known: Tensor
    known_labels: Tensor


def same(images: Tensor) -> Tensor:
    """The images as they are."""
    return images


def undefended(networks: Networks) -> Model:
    """The network that most maskers hide."""
    return networks.undefended


def together(model: Model, images: Tensor) -> Tensor:
    """Logits (N, classes) of one batch."""
    return model(images)


def alone(model: Model, images: Tensor) -> Tensor:
    """Logits (N, classes), asked for one image after the other."""
    return torch.cat([model(image[None]) for image in images])


def in_inference_mode(model: Model, images: Tensor) -> Tensor:
    """Logits (N, classes), asked as a service may ask, where no gradient can be recorded."""
    with torch.inference_mode():
        logits = model(images)
    return logits.clone()


def in_mixed_precision(model: Model, images: Tensor) -> Tensor:
    """Logits (N, classes), asked in mixed precision."""
    with torch.autocast(images.device.type, torch.bfloat16):
        return model(images).float()


def in_batches_of(size: int) -> Callable[[Model, Tensor], Tensor]:
    """A way of asking: logits (N, classes), in batches of `size` images, filled up with the first ones again."""
    def asked(model: Model, images: Tensor) -> Tensor:
        rows = torch.arange(-(-len(images) // size) * size) % len(images)
        return torch.cat([model(part) for part in images[rows].split(size)])[:len(images)]
    return asked


def on_average(model: Model, images: Tensor) -> Tensor:
    """Logits (N, classes), the mean of 20 answers, as a random model is asked."""
    return torch.stack([model(images) for _ in range(20)]).mean(0)


@dataclass(frozen=True)
class Masker:
    """One way to look robust: how it is built, and how the accuracy is found that its users would meet.

    `build` makes a new one that has seen nothing. `honest` makes a differentiable stand-in that answers as the model
    does towards its users: what breaks that one is shown to a new masker, whose answers count. `given` changes the
    clean images of the data into those that the masker is examined with, `met` any image into one of the kind that
    users send, and `asked` is how users ask. With `itself` the masker is attacked without a stand-in too.
    """

    build: Callable[[Networks], Model]
    kind: str
    paper: str
    eps: float = 0.2
    honest: Callable[[Networks], Model] = undefended
    given: Callable[[Tensor], Tensor] = same
    met: Callable[[Tensor], Tensor] = same
    asked: Callable[[Model, Tensor], Tensor] = together
    itself: bool = False


def guarded(logits: Tensor, label: Tensor) -> Tensor:
    """`logits` (N, classes) with that of `label` (N,) raised smoothly above all others."""
    rows = label[:, None]
    others = logits.scatter(1, rows, -torch.inf).amax(1, keepdim=True)
    return logits.scatter(1, rows, others + nn.functional.softplus(logits.gather(1, rows) - others) + 0.01)


def straight_through(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`change` with the gradient of the identity (BPDA, Athalye et al. 2018)."""
    return lambda images: images + (change(images) - images).detach()


def without_gradient(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`change` with no gradient at all, in a graph that looks whole."""
    return lambda images: change(images.detach()) + 0 * images


def drawn_from(images: Tensor, count: int) -> Tensor:
    """`count` numbers in [0, 1) for each image, (N, count): the same for the same pixels, others next door."""
    with torch.no_grad():
        places = torch.arange(1, images[0].numel() + 1, dtype=torch.float64, device=images.device)
        phase = images.flatten(1).double() @ (1e4 * torch.sin(78.233 * places))
        turned = torch.arange(1, count + 1, dtype=torch.float64, device=images.device) * 12.9898
        return (torch.sin(phase[:, None] + turned) * 43758.5453).remainder(1.0).float()
