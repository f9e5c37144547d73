"""How long a step of training takes, of any genome, worked out from those that were timed (`probe`)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from parapet.config import Params
from parapet.genome import Genome
from parapet.steps import simulation
from parapet.steps.simulation import Cost

_LAYERS = ("activation", "denoiser", "input_filter")
# Of what an evaluation would cost if no attack ever succeeded, half-robust networks cost about this share.
_SURVIVING = 0.9


class StepTimes:
    """The times of one family."""

    def __init__(self, params: Params, info: dict[str, Any], timed: dict[str, Any]) -> None:
        self.params, self.info, self.timed = params, info, timed
        self.batch = min(params.training.batch_size, info["images"]["train"])
        self.fixed, self.slope = 0.0, 0.0
        self.factors: dict[tuple[str, str], float] = {}

    @classmethod
    def fit(cls, params: Params, info: dict[str, Any], timed: dict[str, Any]) -> StepTimes:
        """Fixed seconds and seconds per FLOP of a pass, by the family's plain networks."""
        model = cls(params, info, timed)
        model.fixed, model.slope = line([
            (entry["flops"] * model.batch, entry["seconds"] / simulation.passes(_genome(entry), params))
            for entry in timed["anchors"] if entry["seconds"] is not None])
        return model

    def ratios(self) -> list[tuple[Genome, float]]:
        """The timed genomes of the sample, and how many times as long as the line says a step of theirs took."""
        timed = [(_genome(entry), entry) for entry in self.timed["sample"] if entry["seconds"] is not None]
        return [(genome, entry["seconds"] / simulation.passes(genome, self.params)
                 / self.a_pass(genome, entry["flops"])) for genome, entry in timed]

    def a_pass(self, genome: Genome, flops: int) -> float:
        """Seconds of a pass of a batch."""
        return max(1e-9, self.fixed + self.slope * flops * self.batch) * layered(genome, self.factors)

    def largest(self) -> tuple[tuple[int, float], ...]:
        """(FLOPs, seconds of the most expensive step) of each network that was timed."""
        most: dict[int, float] = {}
        for entry in self.timed["anchors"]:
            if entry["seconds"] is not None:
                most[entry["flops"]] = max(most.get(entry["flops"], 0.0), entry["seconds"])
        return tuple(sorted(most.items()))

    def costs(self) -> Iterable[Cost]:
        """Those of the sample, or of the anchors where the sample has nobody of this family."""
        first = self.timed["anchors"][0]
        evaluation, images = self.params.attack_evaluation, self.info["images"]["validation"]
        attacked = (self.timed["suite"] * min(evaluation.images, images) + self.timed["audit"]) * _SURVIVING
        attacked /= self.a_pass(_genome(first), first["flops"])
        for entry in self.timed["sample"] or self.timed["anchors"]:
            genome = _genome(entry)
            a_pass = self.a_pass(genome, entry["flops"])
            yield simulation.cost(genome, self.params, self.info, a_pass=a_pass, batch=self.batch,
                                  look=attacked * a_pass, export=self.timed["export"])


def layer_factors(ratios: Sequence[tuple[Genome, float]]) -> dict[tuple[str, str], float]:
    """How many times as long each activation, denoiser and filter makes a pass, from genomes and how many times as long
    they took: least squares of logarithms, drawn towards 1 as if each choice had been timed once more without effect.

    FLOPs do not tell: a median counts none.
    """
    choices = sorted({(name, getattr(genome, name)) for genome, _ in ratios for name in _LAYERS})
    if not choices:
        return {}
    has = np.array([[getattr(genome, name) == choice for name, choice in choices] for genome, _ in ratios], float)
    effects = np.linalg.solve(has.T @ has + np.eye(len(choices)), has.T @ np.log([ratio for _, ratio in ratios]))
    return dict(zip(choices, map(float, np.exp(effects))))


def layered(genome: Genome, factors: dict[tuple[str, str], float]) -> float:
    """The product of the factors of a genome's layers; 1 for those that are not among `factors`."""
    return math.prod(factors.get((name, getattr(genome, name)), 1.0) for name in _LAYERS)


def line(rows: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(fixed, slope), neither below 0, of the line through the least and the largest x of `rows` of (x, y).

    Where there are several of the same x the middle of their y is taken; of one x alone the line is through zero.
    """
    points: dict[float, list[float]] = {}
    for x, y in rows:
        points.setdefault(x, []).append(y)
    if not points:
        return 0.0, 0.0
    low, high = min(points), max(points)
    bottom, top = statistics.median(points[low]), statistics.median(points[high])
    slope = max(0.0, (top - bottom) / (high - low)) if high > low else top / max(high, 1.0)
    return max(0.0, bottom - slope * low), slope


def _genome(entry: dict[str, Any]) -> Genome:
    return Genome.from_dict(entry["genome"])
