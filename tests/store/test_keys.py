"""What makes two trainings, two evaluations and two searches the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapet.config import Params, Rung, parse
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.store import keys
from parapet.store.records import Parent, Request

PARAMS = parse(Params, {"training": {"epochs": 12}})
FULL = Request(Genome(), Fidelity(0, True, 12))
PARENT = Parent("p" * 64, "promoted", 2)


def _key(request: Request = FULL, params: Params = PARAMS, fingerprint: str = "f", device: str = "cpu") -> str:
    return keys.training_key(request, params, fingerprint, device)


def _with(**sections) -> Params:
    return parse(Params, {"training": {"epochs": 12}, **sections})


def test_the_same_training_has_one_key_on_every_ladder() -> None:
    short, long = Fidelity.ladder((), 12), Fidelity.ladder((Rung(2), Rung(4)), 12)
    assert _key(replace(FULL, fidelity=short[-1])) == _key(replace(FULL, fidelity=long[-1]))
    other = parse(Params, {"training": {"epochs": 24}, "search": {"rungs": [{"epochs": 12}]}})
    assert _key(params=other) == _key(replace(FULL, fidelity=Fidelity(1, False, 12)))


@pytest.mark.parametrize("request_", [
    replace(FULL, parent=PARENT),
    replace(FULL, parent=replace(PARENT, training_key="q" * 64)),
    replace(FULL, parent=replace(PARENT, kind="inherited")),
    replace(FULL, parent=replace(PARENT, epochs=4)),
    replace(FULL, repeat=1), replace(FULL, repeat=2),
    replace(FULL, fidelity=Fidelity(0, True, 13)),
    replace(FULL, fidelity=Fidelity(0, True, 12, 0.5)),
    replace(FULL, fidelity=Fidelity(0, True, 12, 1.0, "n_fgsm")),
    replace(FULL, genome=Genome(width=8)),
])
def test_another_training_has_another_key(request_: Request) -> None:
    assert _key(request_) != _key()


def test_every_one_of_them_differs_from_the_others() -> None:
    requests = [FULL, *(replace(FULL, parent=parent, repeat=repeat, fidelity=Fidelity(0, True, epochs, share, crafting))
                        for parent in (None, PARENT, replace(PARENT, kind="inherited")) for repeat in (0, 1)
                        for epochs in (2, 4) for share in (0.5, 1.0) for crafting in ("own", "n_fgsm"))]
    assert len({_key(request) for request in requests}) == len(requests)


@pytest.mark.parametrize("options", [
    {"params": _with(seed=1)}, {"params": _with(threat={"eps": 0.1})}, {"params": _with(search={"threads": 2})},
    {"params": _with(training={"epochs": 12, "batch_size": 32})}, {"fingerprint": "g"}, {"device": "cuda"}])
def test_what_weights_depend_on_is_part_of_the_key(options: dict) -> None:
    assert _key(**options) != _key()


def test_what_weights_do_not_depend_on_is_no_part_of_it() -> None:
    assert _key(device="cuda:0") == _key(device="cuda:1")
    assert _key(params=_with(training={"epochs": 12, "checkpoint_seconds": 9})) == _key()
    assert _key(params=_with(search={"population": 30}, attack_evaluation={"images": 9})) == _key()
    assert _key(replace(FULL, genome=Genome(denoiser="none", denoiser_stage=2))) == _key()


def test_a_look_changes_the_evaluation_alone() -> None:
    requests = [replace(FULL, evaluation=number, final=final) for number in (1, 2, 3) for final in (False, True)]
    assert {_key(request) for request in requests} == {_key()}
    found = [keys.evaluation_key("t", PARAMS, "attack_evaluation", look) for look in (1, 2, 3)]
    assert len(set(found)) == 3 and found[0] == keys.evaluation_key("t", PARAMS, "attack_evaluation")


@given(st.integers(0, 2**31 - 1), st.integers(0, 20))
def test_a_seed_depends_on_search_genome_and_repeat(seed: int, repeat: int) -> None:
    found = keys.candidate_seed(seed, Genome(), repeat)
    assert 0 <= found < 2**62
    assert found != keys.candidate_seed(seed + 1, Genome(), repeat)
    assert found != keys.candidate_seed(seed, Genome(width=8), repeat)
    assert found != keys.candidate_seed(seed, Genome(), repeat + 1)


@pytest.mark.parametrize(("section", "same"), [
    ({"generations": 9}, True), ({"budget": "9 candidates"}, True), ({"final_seeds": 3}, True), ({"workers": 7}, True),
    ({"rungs": [{"epochs": 2}]}, False), ({"warm_start": True}, False), ({"evaluations": 2}, False),
    ({"maximum_latency_ms": 1.0}, False), ({"reduction": 4}, False), ({"population": 9}, False)])
def test_a_search_is_the_same_whatever_its_budget(section: dict, same: bool) -> None:
    found = keys.search_key(_with(search=section), "f", "cpu")
    assert (found == keys.search_key(PARAMS, "f", "cpu")) is same


def test_an_id_is_the_beginning_of_the_key() -> None:
    assert keys.short_id(_key()) == _key()[:12]
