"""What a network may cost at most: never proposed above FLOPs and parameters, never trained above latency."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parapet.config import Params, parse, to_dict
from parapet.cores import FreeCores
from parapet.data.info import read_info
from parapet.disk import sealed
from parapet.disk.files import read_json
from parapet.errors import InputError, WorkError
from parapet.genome import Genome
from parapet.models import build
from parapet.models.cost import count_flops, count_parameters
from parapet.search import ceilings
from parapet.search.session import Session, new_schedule
from parapet.steps import measure, search
from parapet.store import archive
from parapet.tracking import NullTracker
from tests.steps.tiny import TINY

INFO = {"image_shape": [1, 8, 8], "classes": list("0123456789")}
SPACE = {"width": [4, 8], "depth": [1], "denoiser": ["none"], "input_filter": ["none"], "activation": ["relu", "silu"]}


def _params(**section) -> Params:
    return parse(Params, {**TINY, "search": {"population": 2, "generations": 1, "space": SPACE, **section}})


def _asked(params: Params, generations: int = 3) -> list[Genome]:
    """What a search with made-up results proposes."""
    evolution, asked = new_schedule(params, INFO).evolution, []
    for generation in range(generations):
        asked += (genomes := evolution.ask())
        evolution.tell([[0.1 * generation, 0.5 - 0.01 * place, 3.0] for place in range(len(genomes))])
    return asked


@pytest.mark.parametrize("changed", [
    {"backbone": "plain"}, {"backbone": "residual", "width": 6}, {"backbone": "separable", "activation": "silu"},
    {"denoiser": "gaussian"}, {"denoiser": "median"}, {"input_filter": "median"}, {"depth": 3},
    {"backbone": "vit"}, {"backbone": "preact_resnet"}, {"backbone": "wide_resnet", "width": 2}])
def test_a_network_is_counted_without_being_made(changed: dict) -> None:
    """Making one, weights and all, for each of the hundreds that are drawn would take a minute."""
    genome = Genome(**changed)
    made = build(genome, (3, 32, 32), 10, generator=torch.Generator())
    assert ceilings.cost(genome, (3, 32, 32), 10) == (count_flops(made, (3, 32, 32)), count_parameters(made))


@pytest.mark.parametrize(("name", "place"), [("maximum_flops", 0), ("maximum_params", 1)])
def test_nothing_above_a_ceiling_is_proposed(name: str, place: int) -> None:
    """A ceiling in the middle of what the space holds: some of it is left out, none of it is above."""
    space = {"width": [4, 8, 12, 16], "depth": [1, 2]}
    free = _asked(_params(population=6, space=space))
    costs = sorted(ceilings.cost(genome, (1, 8, 8), 10)[place] for genome in free)
    ceiling = costs[len(costs) // 3]
    assert costs[-1] > ceiling
    for genome in _asked(_params(population=6, space=space, **{name: ceiling})):
        assert ceilings.cost(genome, (1, 8, 8), 10)[place] <= ceiling


def test_a_network_that_costs_just_the_ceiling_is_allowed() -> None:
    flops, parameters = ceilings.cost(Genome(width=4, depth=1), (1, 8, 8), 10)
    for name, ceiling in (("maximum_flops", flops), ("maximum_params", parameters)):
        for allowed, value in ((True, ceiling), (False, ceiling - 1)):
            config = _params(**{name: value}).search
            assert ceilings.admissible(config, (1, 8, 8), 10)(Genome(width=4, depth=1)) is allowed
    assert ceilings.admissible(_params().search, (1, 8, 8), 10) is None


def test_the_recipe_costs_nothing() -> None:
    small = ceilings.cost(Genome(width=4, depth=1), (1, 8, 8), 10)
    assert ceilings.cost(Genome(width=4, depth=1, loss="pgd", steps=1), (1, 8, 8), 10) == small


def test_a_genome_without_a_network_is_let_through() -> None:
    """That it does not fit is a result with its reason, not a hole in the space."""
    small = Genome(backbone="small_cnn").canonical()
    assert ceilings.cost(small, (1, 8, 8), 10) is None
    assert ceilings.admissible(_params(maximum_flops=1).search, (1, 8, 8), 10)(small) is True


def test_ceilings_that_leave_nothing_are_told() -> None:
    evolution = new_schedule(_params(maximum_flops=10), INFO).evolution
    with pytest.raises(InputError, match="^search.maximum_flops, maximum_params or maximum_latency_ms leave nothing of "
                                         "search.space: no genome that was drawn from it stays below them; raise them, "
                                         "or list smaller choices in search.space.$"):
        evolution.ask()


def test_a_candidate_above_the_ceiling_of_latency_is_a_result_that_was_not_trained(digits_folder: Path,
                                                                                   tmp_path: Path) -> None:
    params = _params(maximum_latency_ms=1e-4)
    with pytest.raises(WorkError, match="all 2 candidates failed: latency .* ms is above search.maximum_latency_ms"):
        _search(params, digits_folder, tmp_path)
    journal, = (tmp_path / "cache/searches").glob("*/archive.jsonl")
    records = archive.read(journal)
    assert len(records) == 2
    for entry in records:
        assert entry["status"] == "infeasible" and entry["validation"] is None and entry["violation"] is None
        assert entry["reason"].endswith("ms is above search.maximum_latency_ms 0.0001; not trained")
        assert not (measure.folder_of(tmp_path / "cache", entry["training_key"]) / "model.safetensors").exists()
    assert not list((tmp_path / "cache/latency").glob("*.onnx")), "an untrained graph was left behind"
    # Without the ceiling they are candidates like any other: nothing of it is left in the cache of trainings.
    _search(_params(), digits_folder, tmp_path)
    free = archive.read(tmp_path / "out/archive.jsonl")
    assert {entry["id"] for entry in free} == {entry["id"] for entry in records}
    assert {entry["status"] for entry in free} == {"feasible"}
    # And what was trained without it is above it all the same, and stays trained.
    with pytest.raises(WorkError, match="all 2 candidates failed: latency"):
        _search(_params(maximum_latency_ms=2e-4), digits_folder, tmp_path)
    for entry in free:
        folder = measure.folder_of(tmp_path / "cache", entry["training_key"])
        assert read_json(folder / "training.json")["status"] == "done"


def test_a_child_that_inherits_is_timed_and_a_promoted_one_was(digits_folder: Path, tmp_path: Path) -> None:
    params = _params(maximum_latency_ms=1e-4, warm_start=True)
    info = read_info(digits_folder)
    proposal = {**Session(params, info, "cpu").ask(lambda: False)[1].to_json(),
                "parent": {"training_key": "0" * 64, "kind": "inherited", "epochs": 0}}
    found = measure.run(proposal=proposal, params=to_dict(params), dataset=str(digits_folder),
                        cache=str(tmp_path / "cache"), device="cpu")
    assert found["reason"].endswith("; not trained") and found["parent"] == proposal["parent"]
    promoted = {**proposal, "parent": {**proposal["parent"], "kind": "promoted"}}
    with pytest.raises(WorkError, match="^the weights that candidate [0-9a-f]{12} begins with, those of 000000000000, "
                                        "are not in the candidate cache, or damaged there; run the search again, which "
                                        "trains them again.$"):
        measure.run(proposal=promoted, params=to_dict(params), dataset=str(digits_folder),
                    cache=str(tmp_path / "cache"), device="cpu")


def test_an_architecture_is_timed_once(tmp_path: Path) -> None:
    params = _params(maximum_latency_ms=1e3)
    genome, other = Genome(width=4, depth=1, loss="pgd"), Genome(width=4, depth=1, loss="trades", steps=1)
    assert ceilings.too_slow(params, genome, INFO, tmp_path, FreeCores()) is None
    path, = tmp_path.iterdir()
    sealed.write(path, {**read_json(path), "p50": 2e3})
    assert ceilings.too_slow(params, other, INFO, tmp_path, FreeCores()) == \
        "latency 2e+03 ms is above search.maximum_latency_ms 1000; not trained"
    assert list(tmp_path.iterdir()) == [path]
    assert ceilings.too_slow(params, Genome(width=8, depth=1), INFO, tmp_path, FreeCores()) is None
    assert len(list(tmp_path.iterdir())) == 2


def test_without_a_ceiling_nothing_is_timed(tmp_path: Path) -> None:
    assert ceilings.too_slow(_params(), Genome(), INFO, tmp_path, FreeCores()) is None
    assert list(tmp_path.iterdir()) == []


def _search(params: Params, dataset: Path, folder: Path) -> None:
    search.run(params, dataset, folder / "out", folder / "cache", devices=["cpu"], tracker=NullTracker())
