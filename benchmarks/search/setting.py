"""The digits search that is tabulated: its space, its fidelities, its attack."""

from __future__ import annotations

from pathlib import Path

from parapet.config import Params, parse
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.search.network_space import SearchSpace

# Every combination is a different training: 3 x 4 x 2 networks, 4 losses, 3 radii.
SPACE = {"backbone": ["plain", "residual", "separable"], "width": [4, 8, 12, 16], "depth": [1, 2],
         "activation": ["relu"], "denoiser": ["none"], "denoiser_stage": [1], "input_filter": ["none"],
         "loss": ["pgd", "trades"], "clean_share": [0.0, 0.5], "trades_beta": [1.0, 6.0],
         "eps_ratio": [0.75, 1.0, 1.25], "steps": [2], "learning_rate": [0.2], "weight_decay": [5e-4]}
EPOCHS = 27
IMAGE_SHAPE = (1, 8, 8)
TABLE = Path("benchmarks/results/search-table.jsonl")


def params() -> Params:
    """params.yaml of the tabulated search, at its defaults otherwise."""
    return parse(Params, {
        "data": {"name": "digits"}, "threat": {"norm": "linf", "eps": 0.2}, "training": {"epochs": EPOCHS},
        "attack_evaluation": {"suite": "pgd", "pgd_steps": 12},
        "search": {"space": SPACE, "rungs": [{"epochs": 3, "crafting": "n_fgsm"}, {"epochs": 9}],
                   "minimum_clean_accuracy": 0.5}})


def ladder() -> list[Fidelity]:
    """The three fidelities, cheapest first."""
    settings = params()
    return Fidelity.ladder(settings.search.rungs, settings.training.epochs)


def genomes() -> list[Genome]:
    """Every genome of the space once, in the order of its encoding."""
    space = SearchSpace(SPACE, IMAGE_SHAPE)
    sizes = [len(gene.choices) for gene in space.genes]
    found: dict[Genome, None] = {}
    for number in range(space.size):
        vector = []
        for size in reversed(sizes):
            number, place = divmod(number, size)
            vector.append(place)
        found.setdefault(space.decode(vector[::-1]))
    return list(found)
