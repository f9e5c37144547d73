"""Ways to look robust without being so: each takes a network and gives a callable that hides how it falls."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from parapet.models import load

Model = Callable[[Tensor], Tensor]


class _Backward(torch.autograd.Function):
    """The identity, with a backward pass of its own."""

    @staticmethod
    def forward(ctx, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return values.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.change(gradient), None


def _with_gradient(network: Model, change: Callable[[Tensor], Tensor]) -> Model:
    return lambda images: network(_Backward.apply(images, change))


def sign_quantised(network: Model) -> Model:
    """Pixels of one bit, and no stand-in on the way back."""
    return lambda images: network((images > 0.5).float())


def gradient_killed(network: Model) -> Model:
    """A layer that lets no gradient through, and a trace of one so that the graph looks whole."""
    return lambda images: network(images.detach()) + 0 * images.sum()


def no_graph(network: Model) -> Model:
    """Logits without any graph."""
    def model(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images)
    return model


def logits_times_1000(network: Model) -> Model:
    """Cross-entropy that rounds to nothing."""
    return lambda images: network(images) * 1000


class Noisy(nn.Module):
    """Gaussian noise on the input, in evaluation too, and no word of it."""

    def __init__(self, network: nn.Module, deviation: float = 0.2) -> None:
        super().__init__()
        self.network, self.deviation = network, deviation

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + self.deviation * torch.randn_like(images))


def bit_depth_without_bpda(network: Model, levels: int = 7) -> Model:
    """Three-bit pixels whose rounding has a gradient of zero."""
    return lambda images: network(torch.round(images * levels) / levels)


def thermometer(network: Model, levels: int = 10) -> Model:
    """Pixels counted in thresholds (Buckman et al. 2018), put together again, and no gradient."""
    steps = torch.linspace(0, 1, levels + 1)[1:]
    return lambda images: network((images[..., None] >= steps).float().mean(-1))


def gradient_turned(network: Model) -> Model:
    """Gradients with the wrong sign."""
    return _with_gradient(network, torch.neg)


def gradient_noise(network: Model) -> Model:
    """Gradients drowned in noise ten times their size."""
    return _with_gradient(network, lambda gradient: gradient + 10 * gradient.abs().mean() * torch.randn_like(gradient))


def gradient_replaced(network: Model) -> Model:
    """A made-up gradient of the right size."""
    return _with_gradient(network, lambda gradient: gradient.flip(0, 2, 3))


def gradient_nan(network: Model) -> Model:
    """Gradients that are no numbers."""
    return _with_gradient(network, lambda gradient: gradient * torch.nan)


def gradient_sparse(network: Model) -> Model:
    """The gradient of one pixel in fifty."""
    def change(gradient: Tensor) -> Tensor:
        keep = torch.zeros_like(gradient).flatten(1)
        keep[:, ::50] = 1
        return gradient * keep.reshape(gradient.shape)
    return _with_gradient(network, change)


def gradient_underflow(network: Model) -> Model:
    """Gradients so small that float32 holds none of them."""
    return _with_gradient(network, lambda gradient: gradient * 1e-30 * 1e-30)


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


def shattered(network: Model) -> Model:
    """Ripples on every pixel, too fine to see and steeper than the image itself."""
    return lambda images: network(images + 0.02 * torch.sin(2000 * images))


def squashed_input(network: Model) -> Model:
    """Pixels pressed to 0 and 1 by a steep sigmoid, whose slope is nothing almost everywhere."""
    return lambda images: network(torch.sigmoid(300 * (images - 0.5)))


def probabilities(network: Model) -> Model:
    """Softmax in front of the attacker's own."""
    return lambda images: network(images).softmax(1)


def batch_dependent(network: Model) -> Model:
    """Each answer leans on its neighbours' images."""
    return lambda images: network((images + 0.3 * (images.mean(0, keepdim=True) - 0.3)).clamp(0, 1))


class Detector:
    """Remembers whom it has seen, and answers near them as it did the first time."""

    def __init__(self, network: Model, radius: float = 0.21) -> None:
        self.network, self.radius = network, radius
        self.seen, self.answers = torch.empty(0), torch.empty(0)

    def __call__(self, images: Tensor) -> Tensor:
        flat, logits = images.detach().flatten(1), self.network(images)
        if len(self.seen) == 0:
            self.seen, self.answers = flat, logits.detach()
            return logits
        far = torch.stack([(self.seen - one).abs().amax(1) for one in flat])
        nearest, place = far.min(1)
        known = nearest <= self.radius
        fresh = flat[~known]
        self.seen, self.answers = torch.cat([self.seen, fresh]), torch.cat([self.answers, logits[~known].detach()])
        place[~known] = torch.arange(len(self.seen) - len(fresh), len(self.seen))
        return torch.where(known[:, None], self.answers[place] + 1e-3 * (logits - logits.detach()), logits)


class Memo:
    """Guards the images that it was asked about first, with gradients that look alive, and no others."""

    def __init__(self, network: Model, radius: float = 0.21) -> None:
        self.network, self.radius, self.known = network, radius, None

    def __call__(self, images: Tensor) -> Tensor:
        flat, logits = images.detach().flatten(1), self.network(images)
        if self.known is None:
            self.known, self.answers = flat, logits.detach().argmax(1)
        far = torch.stack([(self.known - one).abs().amax(1) for one in flat])
        nearest, place = far.min(1)
        label = self.answers[place][:, None]
        others = logits.scatter(1, label, -torch.inf).amax(1, keepdim=True)
        guarded = others + nn.functional.softplus(logits.gather(1, label) - others) + 0.01
        return torch.where((nearest <= self.radius)[:, None], logits.scatter(1, label, guarded), logits)


class Tired:
    """Gives the right gradient at first, and answers all alike once it has been asked often."""

    def __init__(self, network: Model, calls: int = 60) -> None:
        self.network, self.calls, self.first = network, calls, None

    def __call__(self, images: Tensor) -> Tensor:
        self.calls -= 1
        if self.first is None:
            with torch.no_grad():
                self.first = {tuple(image.flatten().tolist()): answer
                              for image, answer in zip(images, self.network(images))}
        logits = self.network(images)
        return logits if self.calls > 0 else 0 * logits + self.network(torch.zeros_like(images))


def gradient_far_from_data(known: Tensor) -> Callable[[Model], Model]:
    """Gradients at the clean images `known`, and none anywhere else: those who look there alone are content."""
    def wrap(network: Model) -> Model:
        flat = known.flatten(1)

        def model(images: Tensor) -> Tensor:
            near = (images.detach().flatten(1)[:, None] - flat[None]).abs().amax(2).amin(1) < 1e-6
            return network(torch.where(near.reshape(-1, 1, 1, 1), images, images.detach()))
        return model
    return wrap


def hashed_noise(network: Model) -> Model:
    """Noise that is drawn from the image itself: the same each time, another one next door."""
    def model(images: Tensor) -> Tensor:
        with torch.no_grad():
            phase = images.flatten(1).double() @ torch.linspace(1e4, 2e4, images[0].numel()).double()
            places = torch.arange(1, images[0].numel() + 1).double()
            noise = torch.sin(phase[:, None] * places).float().reshape(images.shape)
        return network(images + 0.15 * noise)
    return model


def on_the_grid(network: Model, robust: Model) -> Model:
    """`network` for images of 8-bit pixels, whatever anybody sends, and the robust one for what an attack makes."""
    def model(images: Tensor) -> Tensor:
        whole = ((images.detach() * 255 - (images.detach() * 255).round()).abs() < 1e-3).flatten(1).all(1)
        return torch.where(whole[:, None], network(images), robust(images))
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


class Halves:
    """Remembers the halves of the images that it is asked about first, and guards whatever has one of them nearby."""

    def __init__(self, network: Model, radius: float = 0.21, room: int = 200) -> None:
        self.network, self.radius, self.room = network, radius, room
        self.left = self.right = torch.empty(0)
        self.answers = torch.empty(0, dtype=torch.int64)

    def __call__(self, images: Tensor) -> Tensor:
        logits, shown = self.network(images), images.detach()
        middle = shown.shape[3] // 2
        left, right = shown[..., :middle].flatten(1), shown[..., middle:].flatten(1)
        if len(self.answers) < self.room:
            kept = [torch.cat([old, new]) if len(old) else new for old, new in ((self.left, left), (self.right, right))]
            self.left, self.right = kept
            self.answers = torch.cat([self.answers, logits.detach().argmax(1)])
        distances = torch.cat([(one[:, None] - known[None]).abs().amax(2) for one, known in (
            (left, self.left), (right, self.right))], 1)
        nearest, place = distances.min(1)
        label = self.answers.repeat(2)[place][:, None]
        others = logits.scatter(1, label, -torch.inf).amax(1, keepdim=True)
        guarded = others + nn.functional.softplus(logits.gather(1, label) - others) + 0.01
        return torch.where((nearest <= self.radius)[:, None], logits.scatter(1, label, guarded), logits)


class CleanLooking:
    """Remembers every image of 8-bit pixels that it has not met, and guards what lies around it."""

    def __init__(self, network: Model, levels: int = 16, radius: float = 0.21) -> None:
        self.network, self.levels, self.radius = network, levels, radius
        self.known, self.answers = torch.empty(0), torch.empty(0, dtype=torch.int64)

    def __call__(self, images: Tensor) -> Tensor:
        logits, flat = self.network(images), images.detach().flatten(1)
        clean = ((flat * self.levels - (flat * self.levels).round()).abs() < 1e-3).all(1)
        if clean.any():
            self.known = torch.cat([self.known, flat[clean]]) if len(self.known) else flat[clean]
            self.answers = torch.cat([self.answers, logits.detach()[clean].argmax(1)])
        if len(self.known) == 0:
            return logits
        nearest, place = (flat[:, None] - self.known[None]).abs().amax(2).min(1)
        label = self.answers[place][:, None]
        others = logits.scatter(1, label, -torch.inf).amax(1, keepdim=True)
        guarded = others + nn.functional.softplus(logits.gather(1, label) - others) + 0.01
        return torch.where((nearest <= self.radius)[:, None], logits.scatter(1, label, guarded), logits)


def from_file(masker: Callable[[Model], Model], path: str) -> Model:
    """What `functools.partial` of this loads in another process: the masker around the network of a weights file."""
    return masker(load(Path(path)))


def honest(network: Model) -> Model:
    """No masker at all."""
    return network


def dying() -> Model:
    """A loader that takes its process with it."""
    os._exit(9)


def unlicensed() -> Model:
    """A loader that serves one process only."""
    raise ValueError("no licence for a second process")


def sleeping() -> Model:
    """A loader that takes its time."""
    time.sleep(300)
    raise AssertionError
