"""Text that users write: params.yaml, recipes, --set, wishes."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import yaml

from parapet import config, devices
from parapet.catalogue.genes import GENES
from parapet.config import Params, parse, to_dict
from parapet.errors import InputError
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.promotion import query as wishes
from parapet.promotion import selection
from parapet.search.budget import Budget
from parapet.search.network_space import SearchSpace
from parapet.training.recipe import Recipe
from parapet.training.recipes import load_recipe
from tests.fuzz.mutations import TOKENS, damaged, json_bytes, twisted
from tests.fuzz.part import Part, demand

ROOT = Path(__file__).parent.parent.parent


def yaml_bytes(chance: random.Random, value: Any) -> bytes:
    """A value as YAML, in one of the styles in which people and programs write it; JSON where YAML has no words."""
    try:
        text = yaml.safe_dump(value, default_flow_style=chance.choice((True, False, None)), sort_keys=False,
                              allow_unicode=chance.random() < 0.5)
        return text.encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError):
        return json_bytes(value)


def check_ranges(value: Any, where: str = "") -> None:
    """Every number of a configuration lies in the range that its field documents, and is finite."""
    for item in dataclasses.fields(value):
        found, limits = getattr(value, item.name), item.metadata
        name = f"{where}{item.name}"
        if dataclasses.is_dataclass(found):
            check_ranges(found, f"{name}.")
            continue
        for one in found if isinstance(found, tuple) else (found,):
            if dataclasses.is_dataclass(one):
                check_ranges(one, f"{name}.")
            elif isinstance(one, int | float) and not isinstance(one, bool):
                demand(math.isfinite(one), f"{name} is {one!r}")
                demand(limits.get("low") is None or one >= limits["low"], f"{name} is {one!r}, below its range")
                demand(limits.get("high") is None or one <= limits["high"], f"{name} is {one!r}, above its range")
            elif isinstance(one, str):
                demand("\0" not in one and not re.search("[\ud800-\udfff]", one), f"{name} is {one!r}")
                demand(not limits.get("choices") or one in limits["choices"], f"{name} is {one!r}")


class _Files(Part):
    """Bytes of valid files damaged, and what they say twisted, half and half."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seeds = self.valid()
        self.values = [yaml.safe_load(seed) for seed in self.seeds]

    def valid(self) -> list[bytes]:
        """Files that are accepted."""
        raise NotImplementedError

    def make(self, chance: random.Random) -> bytes:
        """A damaged file."""
        way = chance.random()
        if way < 0.45:
            return damaged(chance, chance.choice(self.seeds), self.seeds)
        found = yaml_bytes(chance, self.twist(chance, chance.choice(self.values)))
        return damaged(chance, found, self.seeds) if way > 0.9 else found

    def twist(self, chance: random.Random, value: Any) -> Any:
        """The value, made to say something else."""
        return twisted(chance, value)


class Parameters(_Files):
    """What `parapet check` does with params.yaml, as far as that needs no data."""

    def valid(self) -> list[bytes]:
        everything = to_dict(Params())
        rungs = {"rungs": [{"epochs": 3, "crafting": "n_fgsm"}, {"epochs": 9, "data_share": 0.5}]}
        return [(ROOT / "params.yaml").read_bytes(), b"seed: 1\n", json.dumps(everything, indent=1).encode(),
                b"base: &b {norm: l2, eps: 8/255}\nthreat: *b\nsearch: {space: {width: [4, 8]}}\n",
                json.dumps({"search": {**rungs, "budget": "200 candidates", "space": {
                    gene.name: list(gene.choices) for gene in GENES.values()}}}).encode()]

    def twist(self, chance: random.Random, value: Any) -> Any:
        # One section alone, more often: a file of a hundred keys is mostly refused for its first odd one.
        if chance.random() < 0.6 and isinstance(value, dict):
            name = chance.choice(list(value))
            value = {name: value[name]}
        return twisted(chance, value)

    def check(self, content: bytes) -> None:
        params = config.load(self.put("params.yaml", content))
        again = parse(Params, json.loads(json.dumps(to_dict(params), allow_nan=False)))
        demand(again == params, "parameters do not come back from their own dict")
        check_ranges(params)
        search = params.search
        devices.resolve(params.device, workers=search.workers, threads=search.threads)
        wishes.read(params.promotion.select)
        params.threat.check_image(1, 8, 8)
        Budget.parse(search.budget, search.population, search.generations)
        Fidelity.ladder(search.rungs, params.training.epochs)
        space = SearchSpace(search.space, (1, 8, 8))
        demand(space.decode(space.upper) == space.decode(space.encode(space.decode(space.upper))),
               "a genome of the space does not come back from its vector")


class Recipes(_Files):
    """What `parapet train --recipe FILE` reads."""

    def valid(self) -> list[bytes]:
        folder = ROOT / "src/parapet/training/recipes"
        return [path.read_bytes() for path in sorted(folder.glob("*.yaml"))]

    def check(self, content: bytes) -> None:
        check_recipe(load_recipe(str(self.put("own.yaml", content))))


def check_recipe(recipe: Any) -> None:
    """A recipe that was accepted is whole, in its ranges, and says what is to be trained."""
    values = recipe.to_dict()
    json.dumps(values, allow_nan=False)
    check_ranges(recipe)
    demand(Genome.from_dict(values["genome"]) == recipe.genome, "a genome does not come back from its own dict")
    demand(parse(config.TrainingConfig, values["training"]) == recipe.training, "training does not come back")
    Recipe.of(recipe.genome, recipe.training)


class Changes(Part):
    """`--set KEY=VALUE`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        known = [f"{section}.{key}" for section, kind in (("threat", config.ThreatModel), ("genome", Genome),
                                                         ("training", config.TrainingConfig))
                 for key in (item.name for item in dataclasses.fields(kind))]
        self.keys = [*known, "description", "data", "threat", "training", "genome"]

    def make(self, chance: random.Random) -> bytes:
        """A change, or what was one."""
        from tests.fuzz.mutations import VALUES

        key = chance.choice(self.keys)
        value = chance.choice((yaml_bytes(chance, chance.choice(VALUES)).strip(), chance.choice(TOKENS),
                               str(chance.randint(-3, 300)).encode(), str(round(chance.random(), 3)).encode(),
                               chance.choice((b"trades", b"pgd", b"wide_resnet", b"1e-05", b"8/255", b"l2",
                                              b"one_cycle"))))
        content = f"{key}=".encode() + value
        return damaged(chance, content, [content]) if chance.random() < 0.3 else content

    def check(self, content: bytes) -> None:
        # What the operating system hands over of bytes that are no text.
        check_recipe(load_recipe("digits", [content.decode("utf-8", "surrogateescape")]))


class Wishes(Part):
    """What `parapet select` is asked for."""

    PIECES = ("knee", "weights:", "weights", "then", "fewest", "most", "lowest", "highest", ",", ":", "=", ">=",
              "<=", ">",
              "<", "%", "clean_accuracy", "robust_accuracy", "robust accuracy", "FLOPs", "flops", "params",
              "latency_ms",
              "0", "1", "0.5", "88%", "1e6", "-1", "1e400", "10,000", ".5", "5.", "9" * 50, "nan", "inf", "x",
              "  ", "\n")
    VALID = ("knee", "weights: robust_accuracy 3, clean_accuracy 1, flops 0.5",
             "robust_accuracy >= 50%, then fewest FLOPs",
             "robust_accuracy >= 88%, latency_ms <= 0.2, then fewest FLOPs, then most robust_accuracy",
             "clean_accuracy > 0.5, params < 10,000 then lowest latency_ms")

    def make(self, chance: random.Random) -> bytes:
        """Words of the grammar in any order, and sentences of it that were damaged."""
        if chance.random() < 0.4:
            return " ".join(chance.choices(self.PIECES, k=chance.randint(0, 12))).encode()
        text = chance.choice(self.VALID)
        if chance.random() < 0.5:
            words = text.split(" ")
            words[chance.randrange(len(words))] = chance.choice(self.PIECES)
            return " ".join(words).encode()
        return damaged(chance, text.encode(), [wish.encode() for wish in self.VALID])

    def check(self, content: bytes) -> None:
        wish = wishes.read(content.decode("utf-8", "surrogateescape"))
        if isinstance(wish, wishes.Weights):
            values = list(wish.by_quantity.values())
            demand(all(0 <= value < math.inf for value in values) and any(values), f"weights {values}")
            again = wishes.read("weights: " + ", ".join(f"{quantity.name} {value!r}" for quantity, value
                                                        in wish.by_quantity.items()))
        elif isinstance(wish, wishes.Constraints):
            for constraint in wish.constraints:
                demand(math.isfinite(constraint.bound), f"the bound of {constraint.text} is {constraint.bound}")
                demand(not constraint.quantity.is_share or 0 <= constraint.bound <= 1, f"{constraint.text} is no share")
            again = wishes.read(f"{wish}, then " + ", then ".join(map(str, wish.orders)))
        else:
            again = wishes.read("knee")
        demand(again == wish, f"the wish does not come back: {wish}")
        members = [{"id": f"{place:012x}", "validation": {
            "n": 359, "clean_accuracy": 0.9 - 0.1 * place, "robust_accuracy": 0.4 + 0.05 * place,
            "clean_interval": [0.5, 0.95], "robust_interval": [0.3, 0.7]},
            "flops": 1000 * (place + 1), "params": 100 * (5 - place), "latency_ms": {"p50": 0.1 * (place + 1)}}
            for place in range(4)]
        try:
            chosen, reason = selection.select(members, content.decode("utf-8", "surrogateescape"))
        except InputError as error:
            demand(str(error).isprintable() and len(str(error)) < 1200, "a refusal is too long, or not printable")
            return
        demand(chosen in members and bool(reason), "what was chosen is no member")
