"""NSGA-II by ask and tell: resumed equals undisturbed, nothing twice, no empty generation, nothing over a ceiling."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parapet.catalogue.genes import Gene
from parapet.errors import InputError
from parapet.genome import Genome
from parapet.search.evolution import Evolution
from parapet.search.network_space import SearchSpace
from parapet.search.operators import NeighbourMutation, Proposable, first_generation
from parapet.search.surrogate import Surrogate

GOLDEN = Path(__file__).parent / "golden" / "trajectory.json"
NARROW = {gene.name: [gene.choices[0]] for gene in SearchSpace().genes}


def _objectives(genome: Genome) -> list[float] | None:
    """A made-up trade-off with infeasible regions; deterministic and cheap."""
    if genome.denoiser == "median" and genome.width > 8:
        return None
    size = genome.width * genome.depth * (2 if genome.backbone == "residual" else 1)
    return [1 / (size + 1) + 0.1 * (genome.loss == "pgd"), 1 / (size * genome.steps + 1), float(np.log10(size))]


def _violation(genome: Genome) -> float:
    return 0.1 * genome.depth if genome.input_filter == "smoothing" else 0.0


def _small(genome: Genome) -> bool:
    return genome.width * genome.depth <= 8 and genome.backbone != "residual"


def _evolution(seed: int = 3, population: int = 8, space: SearchSpace | None = None, **options: Any) -> Evolution:
    return Evolution(space or SearchSpace(), population=population, objectives=3, seed=seed, **options)


def _run(generations: int, *, interrupt: bool, evolution: Evolution | None = None) -> list[list[Genome]]:
    evolution = evolution or _evolution()
    asked = []
    for _ in range(generations):
        genomes = evolution.ask()
        if interrupt:
            evolution = _revived(evolution)
            assert evolution.ask() == genomes
        asked.append(genomes)
        evolution.tell([_objectives(genome) for genome in genomes])
        if interrupt:
            evolution = _revived(evolution)
    return asked


def _revived(evolution: Evolution) -> Evolution:
    """Through strict JSON, into an object that began with another seed."""
    state = json.loads(json.dumps(evolution.state(), allow_nan=False))
    revived = _evolution(seed=999, population=evolution.population, space=evolution.space,
                         admissible=evolution._proposable.admissible, surrogate=evolution.surrogate)
    revived.restore(state)
    assert revived.state() == state
    return revived


def _told(*outcomes: tuple[list[float] | None, float], population: int = 4) -> tuple[Evolution, dict[Genome, int]]:
    """A search whose first generations had these outcomes, and the place of each genome among them."""
    evolution, places = _evolution(population=population), {}
    for first in range(0, len(outcomes), population):
        part = outcomes[first:first + population]
        places |= {genome: first + place for place, genome in enumerate(evolution.ask())}
        evolution.tell([row for row, _ in part], [violation for _, violation in part])
    return evolution, places


def _survivors(evolution: Evolution, places: dict[Genome, int]) -> list[int]:
    return sorted(places[member] for member in evolution.members)


def test_an_interrupted_search_equals_an_undisturbed_one() -> None:
    assert _run(8, interrupt=True) == _run(8, interrupt=False)


def test_the_trajectory_of_a_seed_is_golden() -> None:
    """Refresh with: python -m tests.search.test_evolution"""
    expected = json.loads(GOLDEN.read_text())
    assert [[genome.digest()[:12] for genome in genomes] for genomes in _run(5, interrupt=False)] == expected


def test_no_genome_is_proposed_twice() -> None:
    asked = [genome for genomes in _run(8, interrupt=False) for genome in genomes]
    assert len(asked) == 64 == len(set(asked))


def test_another_seed_is_another_search() -> None:
    assert _run(2, interrupt=False) != _run(2, interrupt=False, evolution=_evolution(seed=4))


def test_offspring_come_from_the_better_half() -> None:
    evolution = _evolution(population=16)
    for _ in range(10):
        genomes = evolution.ask()
        evolution.tell([_objectives(genome) for genome in genomes])
    assert np.mean([genome.loss == "trades" for genome in evolution.ask()]) > 0.7


def test_all_infeasible_generations_do_not_stop_the_search() -> None:
    evolution = _evolution()
    for _ in range(3):
        evolution.tell([None] * len(evolution.ask()))
    assert len(evolution.ask()) == 8


def test_an_exhausted_space_still_gives_a_generation() -> None:
    evolution = _evolution(population=4, space=SearchSpace({**NARROW, "width": [4, 8], "depth": [1, 2]}))
    for _ in range(4):
        genomes = evolution.ask()
        assert genomes
        evolution.tell([_objectives(genome) for genome in genomes])
        evolution = _revived(evolution)


def test_the_first_generation_holds_the_cheap_and_the_strong_end() -> None:
    space = SearchSpace()
    genomes = [space.decode(row) for row in first_generation(space, 8, np.random.default_rng(0))]
    assert min(space.choices("width")) == genomes[0].width and max(space.choices("width")) == genomes[2].width
    assert genomes[2].backbone == "residual" and len(set(genomes)) == 8


def test_a_space_smaller_than_the_population_is_told() -> None:
    with pytest.raises(InputError, match="search.space holds at most 1 genomes, fewer than search.population"):
        _evolution(space=SearchSpace(NARROW))


def test_a_state_of_another_space_is_told() -> None:
    state = _evolution().state()
    with pytest.raises(InputError, match="do not fit this search"):
        _evolution(space=SearchSpace({"width": [4, 8]})).restore(state)


def test_results_that_were_not_asked_for_are_refused() -> None:
    evolution = _evolution()
    evolution.ask()
    with pytest.raises(ValueError, match="told 1 results, asked for 8"):
        evolution.tell([None])


def test_violations_that_do_not_fit_the_results_are_refused() -> None:
    evolution = _evolution()
    evolution.ask()
    with pytest.raises(ValueError, match="told 8 results, asked for 8, with 1 violations"):
        evolution.tell([None] * 8, [0.0])
    with pytest.raises(ValueError, match="a violation of -0.5; 0 is feasible"):
        evolution.tell([[0.1, 0.2, 3.0]] * 8, [-0.5] + [0.0] * 7)
    assert len(evolution.ask()) == 8


@pytest.mark.parametrize("share", ["many", "few"])
def test_genomes_over_a_ceiling_are_never_proposed(share: str) -> None:
    """Generations stay full where ceilings leave one genome in four, and where they leave one in 850."""
    asked: Counter[Genome] = Counter()

    def admissible(genome: Genome) -> bool:
        asked[genome] += 1
        return _small(genome) and (share == "many" or (genome.width == 4 and genome.depth == 1 and genome.steps == 1
                                                       and genome.loss == "trades" and genome.denoiser == "none"
                                                       and genome.input_filter == "none"))

    genomes = [genome for genomes in _run(6, interrupt=False, evolution=_evolution(admissible=admissible))
               for genome in genomes]
    assert len(genomes) == 48 == len(set(genomes))
    assert all(map(admissible, genomes))
    asked.subtract(genomes)
    assert max(asked.values()) == 1


def test_an_interrupted_search_under_ceilings_equals_an_undisturbed_one() -> None:
    assert _run(5, interrupt=True, evolution=_evolution(admissible=_small)) == \
        _run(5, interrupt=False, evolution=_evolution(admissible=_small))


def test_where_ceilings_leave_three_genomes_they_are_proposed_and_no_other() -> None:
    space = SearchSpace({**NARROW, "width": [4, 8, 12, 16], "depth": [1, 2]})
    evolution = _evolution(population=4, space=space, admissible=lambda genome: genome.width * genome.depth <= 8)
    assert {(genome.width, genome.depth) for genome in evolution.ask()} == {(4, 1), (4, 2), (8, 1)}
    evolution.tell([_objectives(genome) for genome in evolution.ask()])
    assert {(genome.width, genome.depth) for genome in evolution.ask()} <= {(4, 1), (4, 2), (8, 1)}


def test_ceilings_that_leave_nothing_are_told() -> None:
    with pytest.raises(InputError) as caught:
        _evolution(admissible=lambda genome: False).ask()
    assert str(caught.value) == (
        "search.maximum_flops, maximum_params or maximum_latency_ms leave nothing of search.space: no genome that was "
        "drawn from it stays below them; raise them, or list smaller choices in search.space.")


def test_feasible_candidates_come_before_others_and_those_by_their_violation() -> None:
    """Deb 2002: objectives do not matter between candidates of which one is infeasible; failures come last."""
    good, bad = [0.0, 0.0, 0.0], [0.9, 0.9, 5.0]
    evolution, places = _told((good, 0.3), (None, 0.0), (good, 0.2), (bad, 0.0),
                              (good, 0.1), ([np.nan, 0.1, 3.0], 0.0), ([0.1, np.inf, 3.0], 0.0), (bad, 0.4))
    assert _survivors(evolution, places) == [0, 2, 3, 4]
    assert places[evolution.members[0]] == 3
    assert [places[member] for member in evolution.members[1:]] == [4, 2, 0]


def test_a_member_that_proves_worse_when_it_is_measured_again_makes_room() -> None:
    first = [([0.1, 0.4, 3.0], 0.0), ([0.2, 0.3, 3.0], 0.0), ([0.3, 0.2, 3.0], 0.0), ([0.4, 0.1, 3.0], 0.0)]
    evolution, places = _told(*first)
    lucky, members = evolution.members[0], set(evolution.members)
    places |= {genome: 4 + place for place, genome in enumerate(evolution.ask())}
    evolution.revise({lucky: ([0.9, 0.9, 3.0], 0.0), Genome(width=512): ([0.0, 0.0, 0.0], 0.0)})
    evolution.tell([[0.5, 0.5, 3.0]] + [None] * 3)
    assert _survivors(evolution, places) == sorted([places[genome] for genome in members - {lucky}] + [4])


@pytest.mark.parametrize("outcome", [([0.1, 0.4, 3.0], 0.1), (None, 0.0)])
def test_a_member_can_prove_infeasible_and_a_violating_one_feasible(outcome: tuple) -> None:
    rows = [([0.1, 0.4, 3.0], 0.0), ([0.2, 0.3, 3.0], 0.0), ([0.3, 0.2, 3.0], 0.0), ([0.4, 0.1, 3.0], 0.5)]
    evolution, places = _told(*rows)
    genomes = {place: genome for genome, place in places.items()}
    evolution.revise({genomes[0]: outcome, genomes[3]: (rows[3][0], 0.0)})
    evolution.ask()
    evolution.tell([[0.5, 0.5, 3.0], None, None, None])
    members = [places.get(member, "new") for member in evolution.members]
    assert sorted(members[:3]) == [1, 2, 3] and members[3] == "new"


def test_an_interrupted_search_with_revisions_and_violations_equals_an_undisturbed_one() -> None:
    def run(between: Callable[[Evolution], Evolution]) -> tuple[list[list[Genome]], str]:
        evolution, asked = _evolution(), []
        for generation in range(8):
            genomes = evolution.ask()
            evolution = between(evolution)
            again = {member: (None if objectives is None else [0.9 * value for value in objectives],
                              0.5 * _violation(member) if place else 0.3 * (generation % 2))
                     for place, member in enumerate(evolution.members[:4])
                     for objectives in [_objectives(member)]}
            evolution.revise(again)
            evolution = between(evolution)
            asked.append(genomes)
            evolution.tell([_objectives(genome) for genome in genomes], [_violation(genome) for genome in genomes])
            evolution = between(evolution)
        return asked, json.dumps(evolution.state())

    assert run(_revived) == run(lambda evolution: evolution)


def test_a_search_is_revised_at_any_time() -> None:
    evolution = _evolution()
    evolution.revise({Genome(): ([0.1, 0.1, 3.0], 0.0)})
    assert evolution.members == []
    evolution.tell([None] * len(evolution.ask()))
    evolution.revise({genome: ([0.1 * place, 0.5 - 0.1 * place, 3.0], 0.0)
                      for place, genome in enumerate(evolution.members)})
    assert len(_revived(evolution).ask()) == 8


@pytest.mark.parametrize("revive", [False, True])
def test_tournaments_are_won_by_feasibility_then_rank_then_crowding(revive: bool) -> None:
    """pymoo's own: by dominance the extreme candidate of a worse front would win as the least crowded one."""
    evolution, places = _told(([0.0, 1.0, 3.0], 0.0), ([0.45, 0.5, 3.0], 0.0), ([0.5, 0.45, 3.0], 0.0),
                              ([1.0, 0.0, 3.0], 0.0), ([0.05, 1.1, 3.0], 0.0), ([0.0, 0.0, 0.0], 0.1),
                              ([0.0, 0.0, 0.0], 0.2), (None, 0.0), population=8)
    evolution = _revived(evolution) if revive else evolution
    algorithm, at = evolution._algorithm, {places[member]: row for row, member in enumerate(evolution.members)}
    contests = [(0, 1), (1, 4), (2, 4), (3, 4), (4, 5), (5, 6), (6, 7), (0, 7)]
    winners = algorithm.mating.selection.func_comp(
        algorithm.pop, np.array([[at[loser], at[winner]] for winner, loser in contests]), algorithm=algorithm)
    assert [list(at)[list(at.values()).index(row)] for row in winners[:, 0]] == [winner for winner, _ in contests]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_survivors_are_whole_fronts_and_part_of_one(data: st.DataObject) -> None:
    """Objectives on a coarse grid: many ties, equal points, fronts of one member and objectives that never differ."""
    row = st.tuples(*[st.integers(0, data.draw(st.integers(0, 3))) for _ in range(3)]).map(list)
    outcome = st.tuples(st.one_of(row, row, row, st.none()), st.sampled_from([0.0, 0.0, 0.5, 1.0]))
    evolution, known = _evolution(population=5), {}
    for _ in range(3):
        genomes = evolution.ask()
        outcomes = data.draw(st.lists(outcome, min_size=5, max_size=5))
        candidates = {genome: known[genome] for genome in evolution.members} | dict(zip(genomes, outcomes))
        evolution.tell([row for row, _ in outcomes], [violation for _, violation in outcomes])
        known |= candidates
        levels = _levels(candidates)
        kept = [levels[member] for member in evolution.members]
        assert len(set(evolution.members)) == 5
        assert kept == sorted(levels.values())[:5]
        json.dumps(evolution.state(), allow_nan=False)


def _levels(candidates: dict[Genome, tuple[list[float] | None, float]]) -> dict[Genome, tuple[int, float]]:
    """(0, front) of feasible candidates and (1, violation) of others, by definition."""
    levels = {genome: (1, np.inf if row is None else violation) for genome, (row, violation) in candidates.items()
              if row is None or violation > 0}
    left = {genome: np.array(row) for genome, (row, _) in candidates.items() if genome not in levels}
    front = 0
    while left:
        best = [genome for genome, row in left.items()
                if not any((other <= row).all() and (other < row).any() for other in left.values())]
        levels |= dict.fromkeys(best, (0, front))
        left = {genome: row for genome, row in left.items() if genome not in best}
        front += 1
    return levels


def test_of_equal_points_all_but_one_go_first() -> None:
    """Nine candidates of one front, four of them equal, compete for six places."""
    rows = [[0.0, 1.0, 3.0], [0.2, 0.7, 3.0], *[[0.4, 0.5, 3.0]] * 4, [0.6, 0.3, 3.0], [0.8, 0.1, 3.0],
            [1.0, 0.0, 3.0], *[None] * 3]
    evolution, places = _told(*[(row, 0.0) for row in rows], population=6)
    survivors = _survivors(evolution, places)
    assert len(set(survivors) & {2, 3, 4, 5}) == 1 and set(survivors) - {2, 3, 4, 5} == {0, 1, 6, 7, 8}


@pytest.mark.parametrize(("choices", "furthest"), [(2, 1), (3, 1), (4, 1), (5, 4), (50, 49)])
def test_an_ordered_gene_of_many_choices_moves_near_and_far(choices: int, furthest: int) -> None:
    class Space:
        genes = (Gene("width", tuple(range(choices)), True),)

    start = np.random.default_rng(0).integers(0, choices, (4000, 1))
    moved = NeighbourMutation(Space())._do(None, start, random_state=np.random.default_rng(1))
    lengths = np.abs(moved - start)[:, 0]
    assert moved.min() == 0 and moved.max() == choices - 1
    assert lengths.min() == 1 and lengths.max() == furthest
    if choices == 50:
        assert 0.15 < np.mean(lengths == 1) < 0.35 and 0.15 < np.mean(lengths > 10) < 0.5


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_vector_has_one_number(seed: int) -> None:
    space = SearchSpace({"learning_rate": list(np.linspace(0.01, 1, 50))})
    proposable, random = Proposable(space), np.random.default_rng(seed)
    one, other = (tuple(map(int, random.integers(0, space.upper + 1))) for _ in range(2))
    assert proposable.vector(proposable.number(one)) == one
    assert (proposable.number(one) < proposable.number(other)) == (one < other)
    assert proposable.number(space.upper) == space.size - 1


def test_ten_thousand_known_genomes_cost_little() -> None:
    """50 ms a candidate are allowed; a generation takes about 10, and the limit here leaves room for a busy machine."""
    evolution = _evolution()
    evolution.tell([_objectives(genome) for genome in evolution.ask()])
    state = evolution.state()
    known = np.random.default_rng(0).choice(SearchSpace().size, 10_000, replace=False)
    evolution.restore({**state, "known": " ".join(f"{number:x}" for number in known)})
    begin = time.process_time()
    evolution.tell([_objectives(genome) for genome in evolution.ask()])
    text = json.dumps(evolution.state())
    assert time.process_time() - begin < 0.4
    assert len(text) < 100_000
    assert evolution.state()["known"].count(" ") == 10_007


def test_a_surrogate_ranks_offspring_and_resumes_exactly() -> None:
    def run(*, interrupt: bool) -> list[list[Genome]]:
        evolution, history, asked = _evolution(surrogate=Surrogate("forest", 5)), [], []
        for _ in range(6):
            genomes = evolution.ask(history)
            evolution = _revived(evolution) if interrupt else evolution
            asked.append(evolution.ask(history))
            assert asked[-1] == genomes
            results = [_objectives(genome) for genome in genomes]
            history += [(genome, row) for genome, row in zip(genomes, results) if row is not None]
            evolution.tell(results)
            evolution = _revived(evolution) if interrupt else evolution
        return asked

    plain, asked = _run(6, interrupt=False), run(interrupt=False)
    assert run(interrupt=True) == asked
    assert asked[0] == plain[0] and asked[5] != plain[5]
    assert all(len(set(genomes)) == 8 for genomes in asked)


def test_without_measured_genomes_a_surrogate_takes_the_first_offspring() -> None:
    evolution = _evolution(surrogate=Surrogate("forest", 5))
    for _ in range(3):
        genomes = evolution.ask()
        assert len(set(genomes)) == 8
        evolution.tell([_objectives(genome) for genome in genomes])


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps([[genome.digest()[:12] for genome in genomes]
                                  for genomes in _run(5, interrupt=False)], indent=1) + "\n")
