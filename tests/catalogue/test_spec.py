"""The catalogue: names once, sentences for unknown ones, and declarations that lead to what they name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields

import pytest
from torch import nn

from parapet.catalogue.crafting import CRAFTINGS, REGULARISERS
from parapet.catalogue.datasets import DATASETS
from parapet.catalogue.genes import GENES
from parapet.catalogue.losses import LOSSES, MOREL_WEIGHTS
from parapet.catalogue.networks import ACTIVATIONS, BACKBONES, DENOISERS, FILTERS, Layer
from parapet.catalogue.quantities import BOX, OBJECTIVES, QUANTITIES
from parapet.catalogue.spec import Catalogue, resolve
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.models.defence import WAYS, Defence


@dataclass(frozen=True)
class Colour:
    name: str
    hex: str = ""


def test_a_name_is_declared_once() -> None:
    red = Colour("red")
    colours = Catalogue("a colour", (red, Colour("green")))
    colours.add(red)
    assert list(colours) == ["red", "green"] and colours["red"] is red and len(colours) == 2
    with pytest.raises(InputError, match="'red' is declared twice as a colour; give one of the two another name"):
        colours.add(Colour("red", "ff0000"))


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    colours = Catalogue("a colour", (Colour("red"), Colour("green")))
    with pytest.raises(InputError) as error:
        colours.find("gren", "page.colour")
    assert str(error.value) == "page.colour is 'gren'; did you mean green? Allowed: red, green."
    with pytest.raises(InputError) as error:
        colours.find(["red"], "page.colour")
    assert "Allowed: red, green." in str(error.value)


def _references() -> list[str]:
    tables = (LOSSES, REGULARISERS, BACKBONES, ACTIVATIONS, DENOISERS, FILTERS, DATASETS)
    values = (getattr(spec, field.name) for table in tables for spec in table.values() for field in fields(spec))
    return [value for value in values if isinstance(value, str) and ":" in value]


@pytest.mark.parametrize("reference", _references())
def test_a_declaration_leads_to_what_it_names(reference: str) -> None:
    assert callable(resolve(reference))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_takes_the_weights_that_it_declares(name: str) -> None:
    parameters = inspect.signature(resolve(LOSSES[name].function)).parameters
    declared = {weight.name for weight in LOSSES[name].weights}
    taken = {parameter.name for parameter in parameters.values() if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    assert declared == taken - {"smoothing", "logits", "teacher", "centres"}
    assert ("teacher" in taken) == (LOSSES[name].teacher is not None)
    assert all(weight.gene in GENES for weight in (*LOSSES[name].weights, *MOREL_WEIGHTS))
    assert LOSSES[name].clean_weight in {None, *declared}


LAYERS = [layer for table in (DENOISERS, FILTERS) for layer in table.values() if layer.builder]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.builder)
def test_a_defence_layer_says_how_it_is_attacked(layer: Layer) -> None:
    built = resolve(layer.builder)(3)
    assert isinstance(built, Defence) and built.attacked_through in WAYS


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_a_module(name: str) -> None:
    assert isinstance(resolve(ACTIVATIONS[name].builder)(), nn.Module)


def test_the_genes_are_the_fields_of_a_genome_in_their_order() -> None:
    assert list(GENES) == list(Genome().to_dict())
    assert {*REGULARISERS} < {*GENES} and GENES["crafting"].known == tuple(CRAFTINGS)


def test_a_quantity_reads_records_of_either_kind() -> None:
    record = {"validation": {"clean_accuracy": 0.9, "robust_accuracy": 0.5}, "flops": 100, "params": 10,
              "latency_ms": {"p50": 0.2}}
    assert {name: quantity.of(record) for name, quantity in QUANTITIES.items()} == {
        "clean_accuracy": 0.9, "robust_accuracy": 0.5, "flops": 100, "params": 10, "latency_ms": 0.2}
    unmeasured = dict.fromkeys(record)
    assert all(quantity.of(unmeasured) is None for quantity in QUANTITIES.values())
    assert set(BOX) < set(OBJECTIVES)
