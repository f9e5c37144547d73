"""The genes of a genome: their values, and when they have no effect.

A search depends on their order, which is that of a vector's entries; a new gene goes to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from parapet.catalogue.crafting import CRAFTINGS, REGULARISERS
from parapet.catalogue.losses import LOSSES, MOREL_WEIGHTS
from parapet.catalogue.networks import ACTIVATIONS, BACKBONES, DENOISERS, FILTERS
from parapet.catalogue.spec import Catalogue

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Gene:
    """One coordinate of the search space.

    choices: searched by default. ordered: whether it mutates to a neighbouring choice, and not to any other.
    low, high: bounds of the numbers that params.yaml may list; `high` may be a function where a plugin can raise it.
    words: the declarations that name its words.
    off: its value where it has no effect. has_effect: whether it has one, given the values of the genes before it,
    those without effect at `off`; None for a gene that always has one.
    neutral: the value that changes nothing, for example the weight 0; None where there is none. Genomes of older
    archives, which lack the gene, have this value.
    added: whether it is the weight of a term beside the loss, which a genome in words names where it is above 0.
    """

    name: str
    choices: tuple[Any, ...]
    ordered: bool
    low: float | None = None
    high: float | Callable[[], float] | None = None
    words: Catalogue[Any] | None = None
    off: Any = None
    has_effect: Callable[[Values], bool] | None = None
    neutral: Any = None
    added: bool = False

    @property
    def known(self) -> tuple[str, ...]:
        """Its words, none for a number."""
        return () if self.words is None else tuple(self.words)

    @property
    def highest(self) -> float | None:
        """The upper bound as it is now, None for a gene with words."""
        return self.high() if callable(self.high) else self.high

    def counts(self, values: Values) -> bool:
        """Whether it has an effect, given the values of the genes before it."""
        return self.has_effect is None or self.has_effect(values)


def _is_sized(values: Values) -> bool:
    return BACKBONES[values["backbone"]].sized


def _is_attacked(values: Values) -> bool:
    return LOSSES[values["loss"]].attacked


def weighs_loss(gene: str) -> Callable[[Values], bool]:
    """A `has_effect`: whether `gene` is a weight of the genome's loss."""
    return lambda values: gene in LOSSES[values["loss"]].genes.values()


def _most_stages() -> int:
    return max(backbone.stages for backbone in BACKBONES.values())


def _number(name: str, choices: tuple[float, ...], low: float, high: float | Callable[[], float], **rest: Any) -> Gene:
    return Gene(name, choices, True, low, high, **rest)


def regulariser_gene(name: str) -> Gene:
    """The weight of the regulariser of that name; it is not searched unless params.yaml lists choices for it."""
    return _number(name, (0.0,), 0.0, 1e4, off=0.0, neutral=0.0, added=True,
                   has_effect=lambda values: not REGULARISERS[name].attacked or _is_attacked(values))


_MOREL, _MOREL_ALPHA = MOREL_WEIGHTS

GENES: Catalogue[Gene] = Catalogue("a gene", (
    Gene("backbone", ("plain", "residual", "separable"), False, words=BACKBONES),
    _number("width", (4, 8, 12, 16), 1, 1024, off=1, has_effect=_is_sized),
    _number("depth", (1, 2), 1, 64, off=1, has_effect=_is_sized),
    Gene("activation", ("relu", "silu"), False, words=ACTIVATIONS),
    Gene("denoiser", ("none", "mean", "median", "gaussian"), False, words=DENOISERS, neutral="none"),
    _number("denoiser_stage", (1, 2), 1, _most_stages, off=1,
            has_effect=lambda values: values["denoiser"] != "none"),
    Gene("input_filter", ("none", "bit_depth", "median", "smoothing"), False, words=FILTERS, neutral="none"),
    Gene("loss", ("pgd", "trades"), False, words=LOSSES),
    _number("clean_share", (0.0, 0.25, 0.5), 0.0, 0.99, off=0.0, has_effect=weighs_loss("clean_share"), neutral=0.0),
    _number("trades_beta", (1.0, 2.0, 4.0, 6.0), 0.0, 100.0, off=0.0, has_effect=weighs_loss("trades_beta")),
    _number("pairing", (0.5,), 0.0, 100.0, off=0.0, has_effect=weighs_loss("pairing")),
    _number("temperature", (20.0,), 1.0, 1000.0, off=1.0, has_effect=weighs_loss("temperature")),
    _number(_MOREL.gene, (0.0,), 0.0, 0.99, off=0.0, has_effect=lambda values: LOSSES[values["loss"]].joins_morel,
            neutral=0.0, added=True),
    _number(_MOREL_ALPHA.gene, (1e-5,), 0.0, 100.0, off=0.0, has_effect=lambda values: values[_MOREL.gene] > 0),
    *map(regulariser_gene, REGULARISERS),
    _number("label_smoothing", (0.0,), 0.0, 0.99, off=0.0,
            has_effect=lambda values: LOSSES[values["loss"]].smoothable, neutral=0.0, added=True),
    _number("weight_perturbation", (0.0,), 0.0, 0.1, neutral=0.0, added=True),
    Gene("crafting", ("pgd",), False, words=CRAFTINGS, off="pgd", has_effect=_is_attacked, neutral="pgd"),
    _number("eps_ratio", (0.75, 1.0, 1.25), 0.0, 4.0, off=0.0, has_effect=_is_attacked),
    _number("steps", (1, 2), 1, 100, off=1,
            has_effect=lambda values: _is_attacked(values) and CRAFTINGS[values["crafting"]].iterated),
    _number("learning_rate", (0.1, 0.2, 0.4), 1e-6, 10.0),
    _number("weight_decay", (0.0, 1e-4, 5e-4, 2e-3), 0.0, 1.0),
))
