"""Adaptive Auto Attack, A3: many short ascents from learnt starting points (Liu et al. 2022).

Liu, Cheng, Gao, Liu, Zhang, Song: "Practical Evaluation of Adversarial Robustness via Adaptive Auto Attack", CVPR 2022.
Adaptive direction initialization: an ascent starts where a few steps along a random direction in logit space lead, and
the signs of the direction are learnt from ascents that succeeded. Online statistics-based discarding: images whose
largest margin so far is far from 0 are left out of the long rounds. Ours are the ascents that begin in larger balls
(`Round.radii`): without them gradients find little under L2 on networks trained against L-inf.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from parapet.attacks.balls import L2Ball, LinfBall, ball
from parapet.attacks.batching import due, shrink
from parapet.attacks.gradients import input_gradient
from parapet.attacks.inputs import Model, answers, ask, check, frozen, in_halves
from parapet.attacks.noise import Generator, derived, image_seeds, uniform
from parapet.attacks.objectives import margin, precise
from parapet.attacks.restarts import standing, together
from parapet.errors import InputError


class Round(NamedTuple):
    """`restarts` ascents on the `share` of the standing images with the largest margins.

    An ascent takes `steps` steps in the ball of each of `radii` times eps, one after the other; the last radius is 1,
    and only points found in that ball count.
    """

    share: float
    steps: int
    restarts: int = 1
    radii: tuple[float, ...] = (1.0,)


# Many images and few steps at first, then few images and many steps, as in the authors' schedule (which is longer).
# A change that a first layer cuts off below a threshold has no gradient; in a larger ball it is above the threshold.
_INWARD = (8.0, 3.0, 1.5, 1.0)
ROUNDS = {"linf": (Round(1.0, 8), Round(1.0, 15, 3), Round(0.3, 30, 6)),
          "l2": (Round(1.0, 8), Round(1.0, 15), Round(1.0, 8, 6, _INWARD), Round(0.5, 30, 4))}
# A round ends when so many restarts in a row have broken nothing.
_PATIENCE = 2
# Steps along the direction in logit space at the start of an ascent, each as long as the radius.
_START_STEPS = 7
# The components of a learnt direction: that of the target class, and the range of that of the label.
_AIM, _LABEL_LOW, _LABEL_HIGH = 0.8, -0.5, 0.1
# The target classes, one after the other: those of the largest logits, whose boundaries are nearly always nearest.
_AIMED_AT = 9
# The length of the last step, in radii.
_LAST_STEP = 0.001
# A round takes at least so many images.
_FEWEST = 64


def brief(norm: str, steps: int) -> tuple[Round, ...]:
    """Two rounds of one restart, for a small budget: 2 x (steps + 7) steps in all under L-inf.

    Under L2 the second round passes four balls, each smaller than the one before, with half the steps in each: about
    3 x steps + 7 steps in all.
    """
    inward = Round(1.0, max(1, steps // 2), 1, _INWARD)
    return Round(1.0, steps), inward if norm == "l2" else Round(1.0, steps)


def a3(model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "linf",
       rounds: Sequence[Round] | None = None, early_stop: bool = False, generator: Generator | None = None) -> Tensor:
    """Run the `rounds`, by default those of the norm, one after the other on the images that still stand.

    images: float (N, C, H, W) in [0, 1]; labels: (N,); eps in (0, 1] for L-inf and (0, sqrt(CHW)] for L2. Broken images
    always leave the batch; `early_stop` belongs to the common signature. A round ends early when two restarts in a row
    have broken nothing. Random numbers belong to the image, but which images a round takes, and the learnt signs,
    depend on all given images. Returns for each image a version that the model misclassifies if one was found, else the
    one of the largest margin. Raises InputError for rounds out of range.
    """
    check(images, labels, eps=eps, norm=norm)
    rounds = ROUNDS[norm] if rounds is None else rounds
    for one in rounds:
        counts, radii = one.steps >= 1 and one.restarts >= 1, list(one.radii)
        if not 0 < one.share <= 1 or not counts or radii[-1:] != [1.0] or min(radii) < 1:
            raise InputError(f"a3 got {one}; a share lies in (0, 1], steps and restarts are at least 1, and radii are "
                             "at least 1 and end with 1.")
    if len(images) == 0:
        return images.clone()
    seeds = image_seeds(len(images), generator, images.device)
    with frozen(model):
        known, signs = _Known.of(model, images, labels), _Signs()
        turn = 0
        for one in rounds:
            rows = known.nearest(one.share)
            done = idle = 0
            while done < one.restarts and len(rows) and idle < _PATIENCE:
                # Before a direction has been learnt each restart may teach the next one.
                group = together(done, one.restarts, len(rows), images[0].numel()) if turn else range(1)
                points = rows.repeat(len(group))
                turns = torch.arange(turn, turn + len(group), device=rows.device).repeat_interleave(len(rows))
                noise = [derived(seeds[rows], turn + run) for run in range(len(group))]
                directions = _directions(known.logits[points], labels[points], turns, torch.cat(noise), signs)
                starts = torch.cat([uniform(derived(seed, 0), images.shape[1:]) for seed in noise])

                def climb(owners: Tensor, directions: Tensor, starts: Tensor, one: Round = one) -> _Ends:
                    balls = [ball(images[owners], eps * radius, norm) for radius in one.radii]
                    return _climb(model, starts, labels[owners], balls, directions, one.steps, owners)
                ends = _Ends(*in_halves(climb, points, directions, starts))
                signs.learn(directions, labels[points], ends)
                known.keep(rows, ends)
                turn, done = turn + len(group), done + len(group)
                stands = known.values[rows] <= 0
                idle = idle + len(group) if bool(stands.all()) else 0
                rows = rows[stands]
    return known.points


class _Ends(NamedTuple):
    """The results of ascents: for each the point of the largest margin, that margin, and the logits there."""

    points: Tensor
    values: Tensor
    logits: Tensor


class _Known:
    """The best results of all ascents so far for each image: point, margin (above 0 if broken), logits."""

    def __init__(self, points: Tensor, values: Tensor, logits: Tensor) -> None:
        self.points, self.values, self.logits = points, values, logits

    @classmethod
    def of(cls, model: Model, images: Tensor, labels: Tensor) -> _Known:
        """Before any ascent."""
        logits = precise(answers(model, images))
        return cls(images.clone(), margin(logits, labels).float(), logits.float())

    def nearest(self, share: float) -> Tensor:
        """The `share` of the standing images with the largest margins, ascending indices."""
        rows = (self.values <= 0).nonzero().squeeze(1)
        count = min(len(rows), max(_FEWEST, math.ceil(share * len(rows))))
        return rows[self.values[rows].argsort(descending=True, stable=True)[:count]].sort().values

    def keep(self, rows: Tensor, ends: _Ends) -> None:
        """Store the results of one or more runs of ascents, each run over the images `rows` (n,)."""
        for points, values, logits in zip(*(part.split(len(rows)) for part in ends)):
            better = values > self.values[rows]
            chosen = rows[better]
            self.points[chosen], self.values[chosen] = points[better], values[better]
            self.logits[chosen] = logits[better]


class _Signs:
    """The learnt signs: sums of the components of successful directions, for the label and for the reached class."""

    def __init__(self) -> None:
        self.label = self.reached = 0.0

    def learn(self, directions: Tensor, labels: Tensor, ends: _Ends) -> None:
        """Add the directions (n, K) of the ascents that broke their image."""
        broken = ends.values > 0
        reached = ends.logits[broken].argmax(1, keepdim=True)
        self.label += float(directions[broken].gather(1, labels[broken, None]).sum())
        self.reached += float(directions[broken].gather(1, reached).sum())


def _directions(logits: Tensor, labels: Tensor, turns: Tensor, seeds: Tensor, signs: _Signs) -> Tensor:
    """A direction in logit space for each ascent, (n, K): random at first, then with the learnt signs."""
    classes = logits.shape[1]
    directions = 2 * uniform(seeds, (classes,)) - 1
    if not (signs.label or signs.reached):
        return directions
    others = logits.scatter(1, labels[:, None], -torch.inf).topk(min(_AIMED_AT, classes - 1), dim=1).indices
    aim = others.gather(1, (turns % others.shape[1])[:, None])
    share = uniform(derived(seeds, 1), (1,))
    label = (_LABEL_LOW + (_LABEL_HIGH - _LABEL_LOW) * share) * (-1 if signs.label > 0 else 1)
    directions.scatter_(1, labels[:, None], label)
    return directions.scatter_(1, aim, _AIM * (-1 if signs.reached < 0 else 1))


def _climb(model: Model, noise: Tensor, labels: Tensor, balls: Sequence[LinfBall | L2Ball], directions: Tensor,
           steps: int, owners: Tensor) -> _Ends:
    """One ascent from each starting point: steps along its direction in logit space, then on the margin with decreasing
    step size.

    With several `balls` the ascent is on the margin only, in one ball after the other. In the last ball a broken image
    leaves the batch with all its points; owners: the image of each point (n,).
    """
    def along(logits: Tensor, _: Tensor) -> Tensor:
        return (precise(logits) * directions).sum(1)
    points = balls[0].start(noise)
    best = _Ends(points, torch.full(labels.shape, -torch.inf, device=points.device), torch.zeros_like(directions))
    found, rows = _Ends(*(part.clone() for part in best)), torch.arange(len(points), device=points.device)
    for place, around in enumerate(balls):
        # With several balls there are no steps along a direction in logit space.
        before = _START_STEPS if len(balls) == 1 else 0
        points = around.project(points)
        for step in range(-before, steps):
            logits, _, gradient = input_gradient(model, points, labels, along if step < 0 else margin)
            if place == len(balls) - 1:
                best = _better(best, _Ends(points, margin(logits, labels).float(), logits.float()))
                if due(step + before) and (index := shrink(standing(best.values > 0, owners))) is not None:
                    for whole, part in zip(found, best):
                        whole[rows] = part
                    rows, owners, around = rows[index], owners[index], around.select(index)
                    best = _Ends(*(part[index] for part in best))
                    points, labels, gradient, directions = (
                        part[index] for part in (points, labels, gradient, directions))
                    if len(rows) == 0:
                        return found
            points = around.step(points, _feasible(points, gradient), around.eps * _step_size(step, steps))
    with torch.no_grad():
        logits = ask(model, points)
    best = _better(best, _Ends(points, margin(logits, labels).float(), logits.float()))
    for whole, part in zip(found, best):
        whole[rows] = part
    return found


def _feasible(points: Tensor, gradient: Tensor) -> Tensor:
    """The gradient without components that point out of [0, 1]; under L2 they would shorten the others."""
    outward = ((points <= 0) & (gradient < 0)) | ((points >= 1) & (gradient > 0))
    return gradient.masked_fill(outward, 0.0)


def _better(best: _Ends, other: _Ends) -> _Ends:
    """For each ascent the result of the larger margin; a broken one is kept."""
    take = (other.values > best.values) & (best.values <= 0)
    return _Ends(torch.where(take.reshape(-1, 1, 1, 1), other.points, best.points),
                 torch.where(take, other.values, best.values), torch.where(take[:, None], other.logits, best.logits))


def _step_size(step: int, steps: int) -> float:
    """In radii: 1 for the steps before 0, then decreasing like a cosine."""
    if step < 0:
        return 1.0
    return _LAST_STEP + (1 - _LAST_STEP) * (1 + math.cos(math.pi * step / (steps + 1))) / 2
