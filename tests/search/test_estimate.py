"""What a cheap rung says about full training: worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapet.config import Rung
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.search import estimate
from tests.search.archive_records import failed, record

NAMES = ("clean_error", "robust_error", "flops")
LADDER = Fidelity.ladder((Rung(2), Rung(4)), 12)
ONE, TWO, THREE, OTHER = (Genome(width=width).canonical() for width in (4, 8, 12, 16))
# Promoted from rung 0 to full training; clean errors fall by 0.1, 0.2 and 0.4, robust errors by 0.3, 0.2 and 0.1.
PROMOTED = [record(0.5, 0.2, 1000, genome=ONE, rung=0), record(0.6, 0.5, 1000, genome=ONE),
            record(0.5, 0.3, 1000, genome=TWO, rung=0), record(0.7, 0.5, 1000, genome=TWO),
            record(0.5, 0.4, 1000, genome=THREE, rung=0), record(0.9, 0.5, 1000, genome=THREE)]


def _outcomes(*records, genomes=(OTHER,), names=NAMES):
    return estimate.at_full_fidelity(genomes, [*PROMOTED, *records], LADDER, names)


def test_one_that_was_not_promoted_is_shifted_by_the_median_of_those_that_were() -> None:
    values, violation = _outcomes(record(0.5, 0.3, 10_000, genome=OTHER, rung=0))[OTHER]
    assert values == pytest.approx([0.5 - 0.2, 0.7 - 0.2, 4.0]) and violation == 0


def test_one_that_was_promoted_counts_as_it_is_there() -> None:
    values, violation = _outcomes(genomes=[ONE])[ONE]
    assert values == pytest.approx([0.4, 0.5, 3.0]) and violation == 0


def test_errors_stay_shares_of_one() -> None:
    values, _ = _outcomes(record(0.95, 0.99, 1000, genome=OTHER, rung=0))[OTHER]
    assert values[:2] == [0.0, 0.0]


def test_a_rung_from_which_nobody_came_is_not_shifted() -> None:
    values, _ = _outcomes(record(0.5, 0.3, 1000, genome=OTHER, rung=1))[OTHER]
    assert values == pytest.approx([0.5, 0.7, 3.0])


def test_one_that_failed_at_its_highest_rung_has_no_objectives() -> None:
    low = record(0.5, 0.3, 1000, genome=OTHER, rung=0)
    assert _outcomes(low, failed(genome=OTHER, rung=1)) == {OTHER: (None, 0.0)}
    assert _outcomes(failed(genome=OTHER, rung=0)) == {OTHER: (None, 0.0)}
    unexported = replace(low, status="infeasible", reason="export: no", violation=None)
    assert _outcomes(unexported) == {OTHER: (None, 0.0)}


def test_a_failed_audit_is_a_violation_of_one_whatever_the_rung() -> None:
    audited = {"status": "infeasible", "reason": "the audit failed", "violation": estimate.HOPELESS}
    assert estimate.HOPELESS == 1.0
    for rung in (0, 2):
        _, violation = _outcomes(record(0.5, 0.3, 1000, genome=OTHER, rung=rung, **audited))[OTHER]
        assert violation == 1.0


@pytest.mark.parametrize(("rung", "violation", "expected"), [(0, 0.3, 0.1), (0, 0.15, 0.0), (2, 0.3, 0.3)])
def test_what_a_cheap_rung_lacks_of_clean_accuracy_is_shifted_too(rung: int, violation: float,
                                                                  expected: float) -> None:
    low = {"status": "infeasible", "reason": "clean accuracy", "violation": violation}
    assert _outcomes(record(0.5, 0.3, 1000, genome=OTHER, rung=rung, **low))[OTHER][1] == pytest.approx(expected)


def test_other_seeds_and_unknown_genomes_have_no_say() -> None:
    again = record(0.99, 0.99, 1000, genome=ONE, repeat=1)
    assert _outcomes(again, genomes=[ONE, OTHER]) == _outcomes(genomes=[ONE])


@given(st.permutations(PROMOTED))
def test_the_order_of_records_has_no_influence(records) -> None:
    cheap = record(0.5, 0.3, 10_000, genome=OTHER, rung=0)
    assert estimate.at_full_fidelity([OTHER, ONE], [cheap, *records], LADDER, NAMES) == \
        estimate.at_full_fidelity([OTHER, ONE], [*PROMOTED, cheap], LADDER, NAMES)


def test_agreement_is_kendalls_tau_of_what_both_rungs_measured() -> None:
    """Robust accuracies 0.2, 0.3, 0.4 at rung 0; all equal with full training say nothing, 0.5, 0.7, 0.6 agree in two
    pairs of three."""
    assert estimate.agreement(PROMOTED, 0, 2) == {"tau": None, "n": 3}
    records = [*PROMOTED[::2], *(record(0.9, robust, 1000, genome=genome)
                                 for genome, robust in ((ONE, 0.5), (TWO, 0.7), (THREE, 0.6)))]
    found = estimate.agreement([*records, failed(genome=OTHER), record(genome=OTHER, rung=0)], 0, 2)
    assert found == {"tau": pytest.approx(1 / 3), "n": 3}


def test_history_is_of_one_rung_oldest_first_without_what_failed() -> None:
    found = estimate.history([*PROMOTED, failed(genome=OTHER, rung=0)], 0, NAMES)
    assert [genome for genome, _ in found] == [ONE, TWO, THREE]
    assert found[0][1] == pytest.approx([0.5, 0.8, 3.0])
