"""Models that change with the questions they are asked."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from tests.attacks.maskers.base import Model, guarded


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
        return torch.where((nearest <= self.radius)[:, None], guarded(logits, self.answers[place]), logits)


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
        return torch.where((nearest <= self.radius)[:, None], guarded(logits, self.answers.repeat(2)[place]), logits)


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
        return torch.where((nearest <= self.radius)[:, None], guarded(logits, self.answers[place]), logits)


class Plausible:
    """A stateful defence: whatever lies near a plausible image, one with dark margins, that it was asked about before
    gets the label of that image, and every plausible image far from all others is remembered."""

    def __init__(self, network: Model, radius: float = 0.41, darkest: float = 0.16, room: int = 3000) -> None:
        self.network, self.radius, self.darkest, self.room = network, radius, darkest, room
        self.known, self.answers = torch.empty(0), torch.empty(0, dtype=torch.int64)

    def __call__(self, images: Tensor) -> Tensor:
        logits, flat = self.network(images), images.detach().flatten(1)
        dark = images.detach()[..., [0, -1]].flatten(1).mean(1) < self.darkest
        new = dark & (self._nearest(flat)[0] > self.radius)
        if new.any() and len(self.known) < self.room:
            self.known = torch.cat([self.known, flat[new]]) if len(self.known) else flat[new]
            self.answers = torch.cat([self.answers, logits.detach()[new].argmax(1)])
        if len(self.known) == 0:
            return logits
        nearest, place = self._nearest(flat)
        return torch.where((nearest <= self.radius)[:, None], guarded(logits, self.answers[place]), logits)

    def _nearest(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        if len(self.known) == 0:
            return torch.full((len(flat),), torch.inf), torch.zeros(len(flat), dtype=torch.int64)
        return torch.cdist(flat, self.known, p=torch.inf).min(1)


class InAFile:
    """A stateful defence whose memory is a file, by default a temporary one, which other copies of it read: every image
    far from all others is kept with its label, and guarded. The first process begins with none."""

    def __init__(self, network: Model, path: Path | None = None, radius: float = 0.21, room: int = 4000) -> None:
        self.network, self.radius, self.room = network, radius, room
        parent = multiprocessing.parent_process()
        owner = os.getpid() if parent is None else parent.pid
        self.path = path or Path(tempfile.gettempdir()) / f"memory-of-a-masker-{owner}.pt"
        if parent is None:
            self.path.unlink(missing_ok=True)

    def __call__(self, images: Tensor) -> Tensor:
        flat, logits = images.detach().flatten(1).float(), self.network(images)
        known, labels = torch.load(self.path) if self.path.exists() else (flat[:0], torch.empty(0, dtype=torch.int64))
        new = torch.cdist(flat, known, p=torch.inf).amin(1) > 2 * self.radius if len(known) else torch.ones(
            len(flat), dtype=torch.bool)
        if new.any() and len(known) < self.room:
            known, labels = torch.cat([known, flat[new]]), torch.cat([labels, logits.detach()[new].argmax(1)])
            torch.save((known, labels), self.path)
        nearest, place = torch.cdist(flat, known, p=torch.inf).min(1)
        return torch.where((nearest <= self.radius)[:, None], guarded(logits, labels[place]), logits)


class Changing:
    """`before` for the first `calls` questions of a process, `after` for all others."""

    def __init__(self, before: Model, after: Model, calls: int) -> None:
        self.before, self.after, self.calls = before, after, calls

    def __call__(self, images: Tensor) -> Tensor:
        self.calls -= 1
        return self.before(images) if self.calls >= 0 else self.after(images)


def after_many_questions(model: Model, images: Tensor) -> Tensor:
    """Logits (N, classes) of a model that has been asked 500 times before."""
    for _ in range(500):
        model(torch.zeros_like(images[:1]))
    return model(images)
