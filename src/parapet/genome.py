"""A genome: a point of the search space, architecture genes and recipe genes.

A gene that has no effect because of another gene's value gets a fixed value (`Genome.canonical`), so that two genomes
with the same network and the same training are equal.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from parapet.catalogue.crafting import REGULARISERS
from parapet.catalogue.genes import GENES, Gene
from parapet.catalogue.losses import LOSSES
from parapet.catalogue.networks import BACKBONES
from parapet.disk.files import digest
from parapet.errors import InputError
from parapet.quoting import name as named
from parapet.quoting import quote


@dataclass(frozen=True)
class Genome:
    """A point of the search space.

    Architecture: `backbone`, `width` (channels of the first stage), `depth` (blocks per stage), `activation`,
    `denoiser` after stage `denoiser_stage` (1 to the backbone's number of stages), `input_filter`. The backbone
    `small_cnn` is a reference of fixed width and depth.
    Recipe: `loss`, `clean_share` (share of the clean loss in PGD training), `trades_beta` (of TRADES and MART),
    `pairing` (of adversarial logit pairing), `temperature` (of distillation and of its teacher, `softened`), `morel`
    (weight of MOREL's embedding losses added to TRADES or MART) and its `morel_alpha`, the weights of the regularisers
    `input_gradient`, `gradient_alignment` and `logit_squeezing`, `label_smoothing`, `weight_perturbation` (gamma of
    adversarial weight perturbation), `crafting` (pgd, or a one-step attack: fgsm, n_fgsm, or ensemble, which also
    attacks other networks), `eps_ratio` (training radius divided by that of the threat model), attack `steps`, peak
    `learning_rate`, `weight_decay`.
    `others` holds (name, value) of the genes that were added later, without those that have no effect, so that a genome
    without such genes keeps its digest.
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
    others: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "genome") -> Genome:
        """Check and build a genome. Raises InputError with the gene, the value and the allowed values."""
        if not isinstance(values, dict):
            raise InputError(f"{where} is {quote(values)}, and it must be a mapping of genes to values.")
        for name in values:
            if name not in GENES:
                raise InputError(f"{where}.{named(name)} is not a gene; {nearest_gene(name)}")
        checked = {name: check_choice(GENES[name], value, f"{where}.{name}") for name, value in values.items()}
        return cls.of(settled(checked, where))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Genome:
        """The genome with these values of all genes, as returned by `settled`; they are not checked."""
        fields = {name: values[name] for name in FIRST_GENES}
        others = tuple((name, value) for name, value in values.items() if name not in fields
                       and value != GENES[name].neutral and GENES[name].counts(values))
        return cls(**fields, others=others)

    def __getitem__(self, gene: str) -> Any:
        """The value of the gene with this name."""
        if gene in FIRST_GENES:
            return getattr(self, gene)
        return dict(self.others).get(gene, _absent(GENES[gene]))

    def to_dict(self) -> dict[str, Any]:
        """The genes as a plain dict, in the order of `GENES`; without those of `others` that have no effect."""
        return {name: getattr(self, name) for name in FIRST_GENES} | dict(self.others)

    @property
    def meets_attacks(self) -> bool:
        """Whether the genome is trained on adversarial images."""
        return LOSSES[self.loss].attacked

    def declarations(self) -> Iterator[Any]:
        """The declarations that it uses: of its words, its regularisers and the genes in `others`."""
        for name, gene in GENES.items():
            if gene.words is not None:
                yield gene.words[self[name]]
        yield from (spec for name, spec in REGULARISERS.items() if self[name] > 0)
        yield from (GENES[name] for name, _ in self.others)

    def canonical(self) -> Genome:
        """The same network and recipe with every gene that has no effect at a fixed value."""
        return self.of(settled(self.to_dict()))

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical genome."""
        return digest(self.canonical().to_dict())

    def __str__(self) -> str:
        loss = LOSSES[self.loss]
        size = f" {self.width}x{self.depth}" if BACKBONES[self.backbone].sized else ""
        parts = [f"{self.backbone}{size} {self.activation}"]
        if self.denoiser != "none":
            parts.append(f"{self.denoiser} denoiser after stage {self.denoiser_stage}")
        if self.input_filter != "none":
            parts.append(f"{self.input_filter} input filter")
        weights = [f"{weight.words} {self[weight.gene]:g}" for weight in loss.weights]
        parts.append(" ".join([self.loss.replace("_", " "), *weights]))
        parts += [f"{name.replace('_', ' ')} {self[name]:g}" for name, gene in GENES.items()
                  if gene.added and self[name] > 0]
        if self.crafting != "pgd":
            parts.append(self.crafting)
        return ", ".join(parts)


# A genome as a key of dicts and sets.
Point = frozenset[tuple[str, Any]]
# The genes that every genome has as fields, in their order; genes that were added later are in `others`.
FIRST_GENES = tuple(item.name for item in dataclasses.fields(Genome) if item.name != "others")


def point(values: Mapping[str, Any]) -> Point:
    """A genome's dict as a hashable key: equal points are equal genomes."""
    return frozenset(values.items())


def _absent(gene: Gene) -> Any:
    return gene.off if gene.neutral is None else gene.neutral


def settled(values: Mapping[str, Any], where: str = "genome") -> dict[str, Any]:
    """The values of all genes, in the order of `GENES`; genes without effect have their value `off`.

    A missing gene gets its neutral value. Raises InputError, with their names, where missing genes have no neutral
    value and would have an effect.
    """
    missing = [name for name, gene in GENES.items()
               if name not in values and gene.neutral is None and gene.has_effect is None]
    found: dict[str, Any] = {}
    for name, gene in GENES.items() if not missing else ():
        if not gene.counts(found):
            found[name] = gene.off
        elif name in values:
            found[name] = values[name]
        elif gene.neutral is not None:
            found[name] = gene.neutral
        else:
            missing.append(name)
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; a genome names every gene that has an effect.")
    return found


def check_choice(gene: Gene, value: Any, where: str) -> Any:
    """`value` converted to this gene's type. Raises InputError, with the allowed values, where it is not allowed."""
    if gene.words is not None:
        return gene.words.find(value, where).name
    whole = isinstance(gene.choices[0], int)
    low, high = cast(float, gene.low), cast(float, gene.highest)  # a gene without words has both
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high \
            or (whole and value % 1 != 0):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{where} is {quote(value)}; it must be {kind} from {low:g} to {high:g}.")
    return int(value) if whole else float(value)


def nearest_gene(name: str) -> str:
    """A hint for an unknown gene `name`, as the end of a sentence: the most similar gene, and all genes."""
    near = difflib.get_close_matches(named(name), GENES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}The genes are: {', '.join(GENES)}."
