"""Fast adaptive boundary attack (Croce and Hein 2020): the nearest misclassified image, by linearised boundaries.

Croce, Hein: "Minimally distorted adversarial examples with a fast adaptive boundary attack", algorithm 1; targeted as
in their "Reliable evaluation ..." (2020), where each run follows the boundary to one class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from parapet.attacks.balls import ball, distance, dual_length, length
from parapet.attacks.batching import due, shrink
from parapet.attacks.gradient.apgd import other_classes
from parapet.attacks.gradients import class_gradients, input_gradient
from parapet.attacks.inputs import Model, ask, check, frozen, in_halves
from parapet.attacks.minimum_norm.boundary import crossing, refine
from parapet.attacks.minimum_norm.projections import shortest_move
from parapet.attacks.noise import Generator, derived, image_seeds, uniform
from parapet.attacks.objectives import margin, precise
from parapet.attacks.restarts import standing, together
from parapet.errors import InputError

# The authors' values: bias towards the original image, overshoot, and the share of its distance that an adversarial
# point keeps when it is moved back.
_LARGEST_BIAS, _OVERSHOOT, _BACKWARD = 0.1, 1.05, 0.9
_TINY = 1e-12


def fab(model: Model, images: Tensor, labels: Tensor, *, norm: str = "linf", steps: int = 100, restarts: int = 1,
        targets: int | None = 9, eps: float | None = None,
        generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Minimum-norm adversarial images and their distances.

    images: float (N, C, H, W) in [0, 1]; labels: (N,). With `targets` each run follows the boundary to one of the
    `targets` largest other logits; without, that to the nearest of all classes, at a backward pass per class. The first
    restart begins at the image, later ones at random points half of `eps`, or of the distance found so far, away from
    it. With `eps` a run ends once the image was broken within it. Returns (images of the same shape in [0, 1],
    distances (N,) under `norm`): 0 for images that are misclassified already, infinite where none was found.
    """
    check(images, labels, eps=eps, norm=norm)
    if steps < 1 or restarts < 1 or (targets is not None and targets < 1):
        raise InputError(f"fab got steps={steps}, restarts={restarts}, targets={targets}; each must be at least 1.")
    seeds = image_seeds(len(images), generator, images.device)
    found = images.clone()
    distances = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    near = 0.0 if eps is None else eps
    with frozen(model):
        with torch.no_grad():
            distances[ask(model, images).argmax(1) != labels] = 0.0
        ranked = None if targets is None else other_classes(model, images, labels, targets)
        goals = 1 if ranked is None else ranked.shape[1]
        for restart in range(restarts):
            # The distances of all earlier restarts, so that which runs share a batch changes nothing.
            done, reach = 0, distances.clone()
            while done < goals and len(rows := (distances > near).nonzero().squeeze(1)):
                runs = together(done, goals, len(rows), images[0].numel())
                starts = [images[rows] if restart == 0 else _random_start(
                    images[rows], reach[rows], derived(seeds[rows], run * restarts + restart), eps, norm)
                    for run in runs]

                def approach(rows: Tensor, runs: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
                    goal = None if ranked is None else ranked[rows, runs]
                    return _run(model, start, images[rows], labels[rows], goal, norm, steps, near, rows)
                points, lengths = in_halves(
                    approach, rows.repeat(len(runs)),
                    torch.tensor(runs, device=rows.device).repeat_interleave(len(rows)), torch.cat(starts))
                for ends, reached in zip(points.split(len(rows)), lengths.split(len(rows))):
                    closer = reached < distances[rows]
                    found[rows[closer]], distances[rows[closer]] = ends[closer], reached[closer]
                done = runs.stop
    return found, distances


def _run(model: Model, start: Tensor, images: Tensor, labels: Tensor, targets: Tensor | None, norm: str, steps: int,
         near: float, owners: Tensor) -> tuple[Tensor, Tensor]:
    """(nearest adversarial points of the run, their distances), moved back to the boundary by bisection.

    Points within `near` are left as they are. Each run is refined before the nearest of all runs is chosen, so that
    more runs never give a larger distance.
    """
    points, lengths = _approach(model, start, images, labels, targets, norm, steps, near, owners)
    over = ((lengths > near) & torch.isfinite(lengths)).nonzero().squeeze(1)
    if len(over):
        points[over] = refine(model, images[over], labels[over], points[over])
        lengths[over] = distance(points[over], images[over], norm)
    return points, lengths


def _approach(model: Model, points: Tensor, images: Tensor, labels: Tensor, targets: Tensor | None, norm: str,
              steps: int, near: float, owners: Tensor) -> tuple[Tensor, Tensor]:
    """One run over the batch: (nearest adversarial points, their distances), infinite where there was none.

    owners: the image of each point (n,). An image with an adversarial point within `near` leaves the batch with all its
    points.
    """
    found, distances = images.clone(), torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    rows, best, shortest = torch.arange(len(images), device=images.device), found, distances
    for step in range(steps):
        if due(step) and (index := shrink(standing(shortest <= near, owners))) is not None:
            found[rows], distances[rows] = best, shortest
            rows, points, images, labels = rows[index], points[index], images[index], labels[index]
            best, shortest, owners = best[index], shortest[index], owners[index]
            targets = None if targets is None else targets[index]
            if len(rows) == 0:
                return found, distances
        gaps, normals = _nearest_boundary(model, points, images, labels, targets, norm)
        points = _step(points.flatten(1), images.flatten(1), normals.flatten(1), gaps, norm).reshape(images.shape)
        with torch.no_grad():
            fooled = margin(ask(model, points), labels) > 0
        lengths = distance(points, images, norm)
        closer = fooled & (lengths < shortest)
        best = torch.where(closer.reshape(-1, 1, 1, 1), points, best)
        shortest = torch.where(closer, lengths, shortest)
        # An adversarial point is moved back towards its image, so that the next step starts nearer.
        points = torch.where(fooled.reshape(-1, 1, 1, 1), torch.lerp(images, points, _BACKWARD), points)
    found[rows], distances[rows] = best, shortest
    return found, distances


def _nearest_boundary(model: Model, points: Tensor, images: Tensor, labels: Tensor, targets: Tensor | None,
                      norm: str) -> tuple[Tensor, Tensor]:
    """(gaps (n,), normals (n, C, H, W)) of the linearised boundary: a move ends on it if <normal, move> = gap.

    Positive gaps are enlarged so that a step crosses the boundary (see `crossing`).
    """
    if targets is not None:
        def difference(logits: Tensor, labels: Tensor) -> Tensor:
            return (precise(logits).gather(1, targets[:, None]) - precise(logits).gather(1, labels[:, None])).squeeze(1)
        logits, values, normals = input_gradient(model, points, labels, difference)
        differences, normals = values[:, None], normals[:, None]
    else:
        logits, differences, normals = class_gradients(model, points, labels)
    lengths = dual_length(normals.flatten(2), norm)
    nearest = torch.where(lengths > 0, differences.abs() / lengths, torch.inf).argmin(1)
    place = torch.arange(len(points), device=points.device)
    gap, normal, size = (part[place, nearest] for part in (-differences, normals, lengths))
    further = crossing(gap[:, None], size[:, None], logits, distance(points, images, norm), images[0].numel(), norm)
    return torch.where(gap < 0, gap, further.squeeze(1)), normal


def _step(points: Tensor, images: Tensor, normals: Tensor, gaps: Tensor, norm: str) -> Tensor:
    """A mixture of the steps over the boundary from the point and from the image, biased to the image (equation 9)."""
    from_image = gaps + (normals * (points - images)).sum(1)
    moves = shortest_move(torch.cat([points, images]), normals.repeat(2, 1), torch.cat([gaps, from_image]), norm)
    (move, move_from_image), (way, way_from_image) = moves.chunk(2), length(moves, norm).clamp(min=1e-8).chunk(2)
    bias = (way / (way + way_from_image)).clamp(max=_LARGEST_BIAS)[:, None]
    return torch.lerp(points + _OVERSHOOT * move, images + _OVERSHOOT * move_from_image, bias).clamp(0, 1)


def _random_start(images: Tensor, distances: Tensor, seeds: Tensor, eps: float | None, norm: str) -> Tensor:
    """Random points at half of `distances` from the images, or at half of `eps` if that is smaller."""
    largest = 1.0 if norm == "linf" else images[0].numel() ** 0.5
    radii = distances.clamp(max=largest if eps is None else eps).to(images.dtype) / 2
    offset = ball(images, largest / 2, norm).start(uniform(seeds, images.shape[1:])) - images
    scale = radii / length(offset.flatten(1), norm).clamp(min=_TINY)
    return (images + offset * scale.reshape(-1, 1, 1, 1)).clamp(0, 1)
