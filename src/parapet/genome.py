"""The search space: architecture genes and recipe genes, quantised, and their encoding as integer vectors.

A genome is a point of the space. Genes that another gene switches off are set to their first known value
(`Genome.canonical`), so that two genomes which build and train the same thing are equal.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from parapet.errors import InputError
from parapet.files import digest
from parapet.quoting import name as named
from parapet.quoting import quote


@dataclass(frozen=True)
class Gene:
    """One coordinate of the space.

    `ordered` genes mutate to a neighbour, the others to any other choice. `low` and `high` bound the numbers
    that params.yaml may list; `known` lists the words.
    """

    name: str
    choices: tuple[Any, ...]
    ordered: bool
    low: float | None = None
    high: float | None = None
    known: tuple[str, ...] = ()


# How many stages each backbone has: a denoiser may follow any of them.
STAGES = {"plain": 2, "residual": 2, "separable": 2, "small_cnn": 2, "preact_resnet": 4, "wide_resnet": 3, "vit": 2}

# Losses of clean images alone; what is trained with one of them meets no attack.
UNATTACKED = ("standard", "softened", "distillation", "max_mahalanobis")

GENES: tuple[Gene, ...] = (
    Gene("backbone", ("plain", "residual", "separable"), False, known=tuple(STAGES)),
    Gene("width", (4, 8, 12, 16), True, low=1, high=1024),
    Gene("depth", (1, 2), True, low=1, high=64),
    Gene("activation", ("relu", "silu"), False, known=("relu", "silu", "softplus")),
    Gene("denoiser", ("none", "mean", "median", "gaussian"), False,
         known=("none", "mean", "median", "gaussian", "dot_product")),
    Gene("denoiser_stage", (1, 2), True, low=1, high=max(STAGES.values())),
    Gene("input_filter", ("none", "bit_depth", "median", "smoothing"), False,
         known=("none", "bit_depth", "median", "smoothing")),
    Gene("loss", ("pgd", "trades"), False, known=("pgd", "trades", "mart", "alp", *UNATTACKED)),
    Gene("clean_share", (0.0, 0.25, 0.5), True, low=0.0, high=0.99),
    Gene("trades_beta", (1.0, 2.0, 4.0, 6.0), True, low=0.0, high=100.0),
    Gene("pairing", (0.5,), True, low=0.0, high=100.0),
    Gene("temperature", (20.0,), True, low=1.0, high=1000.0),
    Gene("morel", (0.0,), True, low=0.0, high=0.99),
    Gene("morel_alpha", (1e-5,), True, low=0.0, high=100.0),
    Gene("input_gradient", (0.0,), True, low=0.0, high=1e4),
    Gene("gradient_alignment", (0.0,), True, low=0.0, high=1e4),
    Gene("logit_squeezing", (0.0,), True, low=0.0, high=1e4),
    Gene("label_smoothing", (0.0,), True, low=0.0, high=0.99),
    Gene("weight_perturbation", (0.0,), True, low=0.0, high=0.1),
    Gene("crafting", ("pgd",), False, known=("pgd", "fgsm", "n_fgsm", "ensemble")),
    Gene("eps_ratio", (0.75, 1.0, 1.25), True, low=0.0, high=4.0),
    Gene("steps", (1, 2), True, low=1, high=100),
    Gene("learning_rate", (0.1, 0.2, 0.4), True, low=1e-6, high=10.0),
    Gene("weight_decay", (0.0, 1e-4, 5e-4, 2e-3), True, low=0.0, high=1.0),
)
_GENE = {gene.name: gene for gene in GENES}
# What any loss may be joined by; 0 is off.
_ADDED = ("morel", "input_gradient", "gradient_alignment", "logit_squeezing", "label_smoothing", "weight_perturbation")

# A genome's values in the order of `GENES`, from its dict: equal points are equal genomes.
point = operator.itemgetter(*_GENE)

# Images from this height on are worth networks and attacks that would only waste time on smaller ones.
LARGE_FROM = 16
LARGE_CHOICES = {"width": (16, 32, 64, 96), "depth": (1, 2, 3, 4), "steps": (2, 3, 5, 7, 10)}


@dataclass(frozen=True)
class Genome:
    """A point of the search space.

    Architecture: `backbone`, `width` (channels of the first stage), `depth` (blocks per stage), `activation`,
    `denoiser` after stage `denoiser_stage` (1 to the backbone's `STAGES`), `input_filter`. The backbone `small_cnn`
    is a reference of fixed width and depth.
    Recipe: `loss`, `clean_share` (share of the clean loss in PGD training), `trades_beta` (of TRADES and MART),
    `pairing` (of adversarial logit pairing), `temperature` (of distillation and of its teacher, `softened`), `morel`
    (share of MOREL's embedding losses beside TRADES or MART) and its `morel_alpha`, the weights of the regularisers
    `input_gradient`, `gradient_alignment` and `logit_squeezing`, `label_smoothing`, `weight_perturbation` (gamma of
    adversarial weight perturbation), `crafting` (pgd, or one step: fgsm, n_fgsm, and ensemble, from other networks
    too), `eps_ratio` (training radius over the threat model's), attack `steps`, peak `learning_rate`, `weight_decay`.
    """

    backbone: str = "plain"
    width: int = 16
    depth: int = 2
    activation: str = "relu"
    denoiser: str = "none"
    denoiser_stage: int = 1
    input_filter: str = "none"
    loss: str = "trades"
    clean_share: float = 0.0
    trades_beta: float = 4.0
    pairing: float = 0.5
    temperature: float = 20.0
    morel: float = 0.0
    morel_alpha: float = 1e-5
    input_gradient: float = 0.0
    gradient_alignment: float = 0.0
    logit_squeezing: float = 0.0
    label_smoothing: float = 0.0
    weight_perturbation: float = 0.0
    crafting: str = "pgd"
    eps_ratio: float = 1.0
    steps: int = 3
    learning_rate: float = 0.2
    weight_decay: float = 5e-4

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "genome") -> Genome:
        """Check and build a genome; InputError names the gene, the value and what is allowed."""
        if not isinstance(values, dict):
            raise InputError(f"{where} is {quote(values)}, and it must be a mapping of genes to values.")
        missing = [gene.name for gene in GENES if gene.name not in values]
        if missing:
            raise InputError(f"{where} lacks {', '.join(missing)}; a genome names every gene.")
        for name in values:
            if name not in _GENE:
                raise InputError(f"{where}.{named(name)} is not a gene; {_nearest(name)}")
        return cls(**{gene.name: check_choice(gene, values[gene.name], f"{where}.{gene.name}")
                      for gene in GENES}).canonical()

    def to_dict(self) -> dict[str, Any]:
        """The genes as a plain dict, in the order of `GENES`."""
        return dataclasses.asdict(self)

    def canonical(self) -> Genome:
        """The same network and recipe with every gene that has no effect at a fixed value."""
        changes: dict[str, Any] = {}
        if self.denoiser == "none":
            changes["denoiser_stage"] = 1
        if self.backbone == "small_cnn":
            changes.update(width=1, depth=1)
        if self.loss != "pgd":
            changes["clean_share"] = 0.0
        if self.loss not in ("trades", "mart"):
            changes.update(trades_beta=0.0, morel=0.0)
        if self.loss != "alp":
            changes["pairing"] = 0.0
        if self.loss not in ("softened", "distillation"):
            changes["temperature"] = 1.0
        if self.loss in ("distillation", "max_mahalanobis"):
            changes["label_smoothing"] = 0.0
        if self.loss in UNATTACKED:
            changes.update(eps_ratio=0.0, steps=1, crafting="pgd", gradient_alignment=0.0)
        elif self.crafting != "pgd":
            changes["steps"] = 1
        if changes.get("morel", self.morel) == 0:
            changes["morel_alpha"] = 0.0
        return dataclasses.replace(self, **changes)

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical genome."""
        return digest(self.canonical().to_dict())

    def __str__(self) -> str:
        size = "" if self.backbone == "small_cnn" else f" {self.width}x{self.depth}"
        parts = [f"{self.backbone}{size} {self.activation}"]
        if self.denoiser != "none":
            parts.append(f"{self.denoiser} denoiser after stage {self.denoiser_stage}")
        if self.input_filter != "none":
            parts.append(f"{self.input_filter} input filter")
        weight = {"trades": f" beta {self.trades_beta:g}", "mart": f" beta {self.trades_beta:g}",
                  "pgd": f" clean share {self.clean_share:g}", "alp": f" pairing {self.pairing:g}",
                  **dict.fromkeys(("softened", "distillation"), f" temperature {self.temperature:g}")}
        parts.append(f"{self.loss.replace('_', ' ')}{weight.get(self.loss, '')}")
        parts += [f"{name.replace('_', ' ')} {getattr(self, name):g}" for name in _ADDED if getattr(self, name) > 0]
        if self.crafting != "pgd":
            parts.append(self.crafting)
        return ", ".join(parts)


class SearchSpace:
    """The choices of every gene, and the map between genomes and integer vectors."""

    def __init__(self, overrides: dict[str, list[Any]] | None = None,
                 image_shape: Sequence[int] = (1, 8, 8)) -> None:
        """`overrides` maps gene names to the choices to search (params.yaml's `search.space`).

        Without an override a gene has the choices of `GENES`, or of `LARGE_CHOICES` for images (C, H, W) that
        are at least `LARGE_FROM` pixels high.
        """
        large = LARGE_CHOICES if image_shape[1] >= LARGE_FROM else {}
        given: dict[str, Sequence[Any]] = {**large, **(overrides or {})}
        for name in given:
            if name not in _GENE:
                raise InputError(f"search.space.{named(name)} is not a gene; {_nearest(name)}")
        self.genes = tuple(_narrowed(gene, given[gene.name]) if gene.name in given else gene for gene in GENES)
        self._check_stages()

    def choices(self, name: str) -> tuple[Any, ...]:
        """What the gene called `name` may be."""
        return next(gene.choices for gene in self.genes if gene.name == name)

    def _check_stages(self) -> None:
        last, backbones = self.choices("denoiser_stage")[-1], self.choices("backbone")
        shortest = min(backbones, key=STAGES.__getitem__)
        if last > STAGES[shortest] and self.choices("denoiser") != ("none",):
            raise InputError(f"search.space.denoiser_stage lists {last}, and the backbone {shortest} has "
                             f"{STAGES[shortest]} stages; list stages up to {STAGES[shortest]}, or backbones with more "
                             f"of them: {', '.join(name for name in STAGES if STAGES[name] >= last)}.")

    @property
    def upper(self) -> np.ndarray:
        """The largest index of each gene; the smallest is 0."""
        return np.array([len(gene.choices) - 1 for gene in self.genes])

    @property
    def size(self) -> int:
        """How many vectors there are; an upper bound on how many different genomes."""
        return math.prod(len(gene.choices) for gene in self.genes)

    def decode(self, vector: Sequence[int] | np.ndarray) -> Genome:
        """Indices, one per gene, to a canonical genome."""
        values = {gene.name: gene.choices[int(index)] for gene, index in zip(self.genes, vector, strict=True)}
        return Genome(**values).canonical()

    def encode(self, genome: Genome) -> np.ndarray:
        """A genome to the indices of its nearest choices; genes without effect get index 0."""
        return np.array([_nearest_index(gene, getattr(genome, gene.name)) for gene in self.genes])

    def normalise(self, vector: Sequence[int] | np.ndarray) -> np.ndarray:
        """The vector whose genes without effect are where `encode` puts them: equal genomes have equal vectors."""
        return self.encode(self.decode(vector))


def check_choice(gene: Gene, value: Any, where: str) -> Any:
    """`value` as this gene's type, or InputError with what is allowed."""
    if gene.known:
        if value not in gene.known:
            near = difflib.get_close_matches(named(value), gene.known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise InputError(f"{where} is {quote(value)}{hint} Allowed: {', '.join(gene.known)}.")
        return value
    whole = isinstance(gene.choices[0], int)
    low, high = cast(float, gene.low), cast(float, gene.high)  # a gene without words has both
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high \
            or (whole and value % 1 != 0):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{where} is {quote(value)}; it must be {kind} from {low:g} to {high:g}.")
    return int(value) if whole else float(value)


def _narrowed(gene: Gene, choices: Iterable[Any]) -> Gene:
    where = f"search.space.{gene.name}"
    checked = tuple(check_choice(gene, value, where) for value in choices)
    if not checked:
        raise InputError(f"{where} is empty; list at least one choice, or leave the gene out to search all of "
                         f"{', '.join(map(str, gene.choices))}.")
    if len(set(checked)) != len(checked):
        raise InputError(f"{where} names a choice twice: {quote(list(checked))}; list each once.")
    return dataclasses.replace(gene, choices=tuple(sorted(checked)) if gene.ordered else checked)


def _nearest_index(gene: Gene, value: Any) -> int:
    if value in gene.choices:
        return gene.choices.index(value)
    if not gene.ordered:
        return 0
    return min(range(len(gene.choices)), key=lambda index: abs(gene.choices[index] - value))


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(named(name), _GENE, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}The genes are: {', '.join(_GENE)}."
