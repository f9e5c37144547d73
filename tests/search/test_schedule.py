"""The order of rounds, who is promoted, and that nothing but records decides what comes next."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.config import Rung
from parapet.errors import InputError
from parapet.genome import point
from parapet.search.front import front, rank_order
from parapet.search.network_space import SearchSpace
from parapet.search.schedule import of_generations, trained_from_scratch
from parapet.store.records import latest
from tests.search.archive_records import record
from tests.search.made_up_schedule import TWO_RUNGS, hopeless, measured, phases, revived, run, schedule

NAMES = ("clean_error", "robust_error", "flops")
NARROW = {gene.name: [gene.choices[0]] for gene in SearchSpace().genes}
RICH = {"rungs": TWO_RUNGS, "warm_start": True, "evaluations": 2, "final_seeds": 3}


def _genomes(requests) -> set[tuple[Any, ...]]:
    return {point(request.genome.to_dict()) for request in requests}


def test_a_plain_search_is_a_round_a_generation_and_nothing_after_it() -> None:
    search, rounds, records = run(schedule(), 3)
    assert phases(rounds) == [("generation", 0)] * 3
    assert [len(requests) for _, requests in rounds] == [8, 8, 8]
    assert not any(request.final or request.parent for _, requests in rounds for request in requests)
    assert search.phase == "done" and len(records) == 24


def test_with_two_rungs_a_generation_is_three_rounds_and_the_front_is_trained_at_the_end() -> None:
    _, rounds, records = run(schedule(rungs=TWO_RUNGS), 2)
    assert phases(rounds) == [("generation", 0), ("promotion", 1), ("promotion", 2)] * 2 + [("final", 2)]
    epochs = [{(request.fidelity.epochs, request.fidelity.crafting) for request in requests} for _, requests in rounds]
    assert epochs == [{(2, "n_fgsm")}, {(4, "own")}, {(12, "own")}] * 2 + [{(12, "own")}]
    promoted = [request.parent for phase, requests in rounds if phase == "promotion" for request in requests]
    keys = {entry.training_key: entry.fidelity.epochs for entry in records}
    assert all(parent.kind == "promoted" and parent.epochs == keys[parent.training_key]
               for parent in promoted)


def test_members_of_the_front_are_evaluated_until_they_have_had_enough() -> None:
    search, rounds, records = run(schedule(evaluations=2), 3)
    assert phases(rounds)[:2] == [("generation", 0), ("looks", 0)]
    assert all(request.evaluation == 2 for phase, requests in rounds if phase == "looks" for request in requests)
    again = [request for _, requests in rounds for request in requests if request.evaluation == 2]
    assert len({request.genome for request in again}) == len(again), "evaluated a second time twice"
    assert {member.evaluations for member in front(latest(records), NAMES)} == {2}


def test_with_three_seeds_each_member_of_the_front_is_trained_three_times() -> None:
    _, rounds, records = run(schedule(final_seeds=3), 2)
    assert phases(rounds)[-1] == ("final", 0)
    _, requests = rounds[-1]
    members = front(trained_from_scratch(records), NAMES)
    assert {(request.genome, request.repeat) for request in requests} == \
        {(genome, repeat) for genome in {request.genome for request in requests} for repeat in (1, 2)}
    assert _genomes(requests) == {member.point for member in members}
    assert all(request.final and request.parent is None for request in requests)


@pytest.mark.parametrize("options", [{"rungs": TWO_RUNGS}, {"warm_start": True}, RICH])
def test_exactly_what_did_not_begin_from_scratch_is_trained_again_at_the_end(options: dict[str, Any]) -> None:
    _, rounds, records = run(schedule(**options), 3)
    known = of_generations(records)
    members = front(known, NAMES)
    _, first = next((phase, requests) for phase, requests in rounds if phase == "final")
    assert _genomes(first) == {member.point for member in members if member.parent is not None}
    assert all(request.parent is None and request.repeat == 0 and request.fidelity.full for request in first)
    for member in front(trained_from_scratch(records), NAMES):
        repeats = {entry.repeat for entry in records if entry.fidelity.full and entry.parent is None
                   and entry.point == member.point}
        assert repeats == set(range(options.get("final_seeds", 1)))
        assert member.evaluations == options.get("evaluations", 1)


def test_children_inherit_from_the_population_and_the_first_generation_from_nobody() -> None:
    search, rounds, records = run(schedule(warm_start=True), 3)
    generations = [requests for phase, requests in rounds if phase == "generation"]
    assert all(request.parent is None for request in generations[0])
    inherited = [request for requests in generations[1:] for request in requests if request.parent]
    assert len(inherited) > 8
    by_key = {entry.training_key: entry for entry in records}
    for request in inherited:
        assert request.parent.kind == "inherited" and request.parent.epochs == 0
        assert by_key[request.parent.training_key].genes["backbone"] == request.genome.backbone


@pytest.mark.parametrize("reduction", [2, 3, 5])
def test_the_quota_is_of_all_of_the_rung_and_nobody_is_promoted_twice(reduction: int) -> None:
    search, records = schedule(rungs=TWO_RUNGS, reduction=reduction), []
    promoted: dict[int, list] = {1: [], 2: []}
    while requests := search.ask(records, lambda: search.generation >= 4):
        rung = requests[0].fidelity.rung
        if search.phase == "promotion":
            below = [entry for entry in records if entry.fidelity.rung == rung - 1 and not entry.final]
            quota = math.ceil(len(below) / reduction)
            best = [below[place].point for place in rank_order(below, NAMES)[:quota]]
            wanted = {genome for genome in best if genome not in promoted[rung]}
            assert _genomes(requests) <= wanted
            missing = wanted - _genomes(requests)
            assert all(entry.violation is None for entry in below if entry.point in missing)
            promoted[rung] += _genomes(requests)
        records += [measured(request, search.generation) for request in requests]
        search.tell(records)
    for genomes in promoted.values():
        assert len(genomes) == len(set(genomes)) > 0


@pytest.mark.parametrize("changes", [
    {"reason": "the audit failed", "violation": 1.0}, {"reason": "export: no", "violation": None},
    {"reason": "nan", "violation": None, "validation": None}])
def test_what_failed_is_never_promoted(changes: dict[str, Any]) -> None:
    """Three of four failed, and two may go on."""
    search = schedule(population=4, rungs=(Rung(2),), reduction=2)
    requests = search.ask([], lambda: False)
    records = [measured(requests[0], 0), *(replace(measured(request, 0), status="infeasible", **changes)
                                           for request in requests[1:])]
    search.tell(records)
    assert [request.genome for request in search.ask(records, lambda: False)] == [requests[0].genome]


def test_one_below_the_floor_of_accuracy_may_be_promoted() -> None:
    search = schedule(population=2, rungs=(Rung(2),), reduction=2)
    requests = search.ask([], lambda: False)
    low = {"status": "infeasible", "reason": "clean accuracy"}
    records = [replace(measured(request, 0), **low, violation=violation)
               for request, violation in zip(requests, (0.3, 0.2))]
    search.tell(records)
    assert [request.genome for request in search.ask(records, lambda: False)] == [requests[1].genome]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_in_which_a_round_is_ready_has_no_influence(seed: int) -> None:
    _, expected, _ = run(schedule(**RICH), 3)
    _, rounds, _ = run(schedule(**RICH), 3, shuffle=random.Random(seed))
    assert rounds == expected


@pytest.mark.parametrize("options", [{}, {"rungs": TWO_RUNGS}, {"warm_start": True, "evaluations": 3}, RICH])
def test_interrupted_after_every_round_it_asks_for_the_same(options: dict[str, Any]) -> None:
    _, expected, records = run(schedule(**options), 4)
    _, rounds, found = run(schedule(**options), 4, interrupt=True)
    assert rounds == expected and found == records
    assert {phase for phase, _ in expected} > ({"promotion"} if options.get("rungs") else set())


@pytest.mark.parametrize("options", [{}, RICH])
def test_a_longer_search_asks_for_what_an_uninterrupted_one_does(options: dict[str, Any]) -> None:
    """The end of the shorter search lies in the archive and has no influence."""
    _, expected, _ = run(schedule(**options), 5)
    search, before, records = run(schedule(**options), 2)
    assert not options or any(entry.final for entry in records)
    search = revived(search)
    search.reopen()
    _, after, _ = run(search, 5, records)

    def course_of(rounds):
        return [each for each in rounds if each[0] != "final"]
    assert course_of(before) + course_of(after) == course_of(expected)


def test_a_shorter_search_ends_with_the_front_of_its_own_generations() -> None:
    """Where a longer one has been before."""
    _, expected, shorter = run(schedule(**RICH), 2)
    search, _, records = run(schedule(**RICH), 5)
    search = revived(search)
    search.reopen()
    search.generations = 2
    _, rounds, _ = run(search, 2, [entry for entry in records if not entry.final])
    assert [requests for phase, requests in rounds] == [requests for phase, requests in expected if phase == "final"]


def test_ranks_that_disagree_move_the_start_up_and_say_so() -> None:
    search, rounds, _ = run(schedule(rungs=TWO_RUNGS, reduction=2, population=12), 4, agree=-1.0)
    starts = [requests[0].fidelity.rung for phase, requests in rounds if phase == "generation"]
    assert starts[0] == 0 and starts == sorted(starts) and starts[-1] == 2
    assert search.notes[0].startswith("robust accuracy after 2 and after 12 epochs: rank correlation -")
    assert search.notes[0].endswith("promoted candidates), below search.minimum_rank_correlation 0.3: from now on "
                                    "candidates begin with 4 epochs")
    assert search.notes[1].startswith("robust accuracy after 4 and after 12 epochs: rank correlation")
    assert len(search.notes) >= 2 and "begin with 12 epochs" in search.notes[-1]


def test_the_note_of_ranks_that_agree_is_exact_and_changes_nothing() -> None:
    """Eight are promoted of sixteen; their order is the same at both rungs but for one pair: tau is 26 / 28."""
    search = schedule(rungs=(Rung(2),), reduction=2, population=16)

    def answer(request, generation, agree):
        place = order.setdefault(request.genome, len(order))
        robust = {6: 0.507, 7: 0.506}.get(place, 0.5 + 0.001 * place) if request.fidelity.full else 0.3 + 0.01 * place
        return record(0.5 + 0.001 * place, robust, 1000, genome=request.genome,
                      rung=2 if request.fidelity.full else 0, parent=request.parent and vars(request.parent),
                      generation=generation, fidelity=request.fidelity.to_dict(), final=request.final)
    order: dict = {}
    # The best eight are those asked for last, and one more accurate than another is also more robust.
    requests = search.ask([], lambda: False)
    for place, request in enumerate(reversed(requests)):
        order[request.genome] = 7 - place if place < 8 else -place
    search, _, _ = run(search, 1, answer=answer)
    assert search.notes == ["robust accuracy after 2 and after 12 epochs: rank correlation 0.93 (Kendall's tau, 8 "
                            "promoted candidates)"]
    assert search.start == 0


def test_an_exhausted_space_ends_the_search() -> None:
    space = SearchSpace(NARROW | {"width": [4, 8], "activation": ["relu", "silu"], "backbone": ["plain", "residual"]})
    for options in ({}, RICH):
        search, rounds, records = run(schedule(population=3, space=space, **options), 1000)
        asked = [request.genome for phase, requests in rounds if phase == "generation" for request in requests]
        assert len(asked) == len(set(asked)) == 8
        assert search.phase == "done"
        again = revived(search)
        again.reopen()
        assert again.ask(records, lambda: False) == []


def test_the_last_generation_may_be_a_part_of_one() -> None:
    search, records = schedule(), []
    while search.ask(records, lambda spent=records[:]: len(spent) >= 19, most=19 - len(records)):
        search = revived(search)
        records += [measured(request, search.generation) for request in search.ask(records, lambda: False)]
        search.tell(records)
    assert len({entry.point for entry in records}) == 19 == len(records)
    assert search.generation == 3


def test_the_search_goes_by_what_it_is_told() -> None:
    """Hopeless genomes are told as failures, and the population holds none while there are others."""
    search, _, records = run(schedule(), 6)
    assert any(hopeless(entry.genome) for entry in records)
    assert not any(map(hopeless, search.evolution.members))


def test_state_of_another_version_is_refused() -> None:
    state = json.loads(json.dumps(schedule().state()))
    for changed in ({**state, "schema_version": 0}, state["evolution"]):
        with pytest.raises(InputError, match="^the search's state is not one of version 1, which this Parapet reads; "
                                             "start in another folder, or use the Parapet that wrote it.$"):
            schedule().restore(changed)
