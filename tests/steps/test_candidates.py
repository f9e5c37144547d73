"""candidates: what a measured candidate counts as."""

from __future__ import annotations

import pytest

from parapet.config import Params, parse
from parapet.errors import InputError
from parapet.fidelity import Fidelity
from parapet.genome import Genome
from parapet.search.estimate import HOPELESS
from parapet.search.feasibility import record_of, refuse_empty_front
from parapet.search.session import proposal_of
from parapet.steps import candidates
from parapet.store.records import Record, Request
from tests.steps.tiny import TINY

PARAMS = parse(Params, {**TINY, "search": {**TINY["search"], "rungs": [{"epochs": 1}]}})
CHEAP, FULL = Fidelity.ladder(PARAMS.search.rungs, PARAMS.training.epochs)
INFO = {"fingerprint": "f" * 64, "image_shape": [1, 8, 8], "classes": list("0123456789")}


def _record(fidelity: Fidelity, failed: str, clean: int) -> Record:
    proposal = proposal_of(Request(Genome(), fidelity), PARAMS, INFO, "cpu", 0)
    evaluation = {"n": 10, "clean_accuracy": clean / 10, "clean_interval": [0.0, 1.0], "robust_accuracy": 0.0,
                  "robust_interval": [0.0, 0.3], "attacks": {"pgd_ce": {"alone": 0.0, "left": None}}}
    audit = {"verdict": "fail", "checks": [{"id": failed, "verdict": "fail", "numbers": {}, "advice": "Train longer."}]}
    return record_of(proposal, [{"status": "done", "evaluation": evaluation, "audit": audit}], PARAMS)


def test_a_network_that_gets_nothing_right_yet_may_still_be_promoted() -> None:
    early = _record(CHEAP, "clean_accuracy", clean=1)
    assert not early.is_feasible and 0.8 < early.violation < HOPELESS
    assert _record(CHEAP, "clean_accuracy", clean=0).violation < HOPELESS
    assert _record(CHEAP, "gradients", clean=1).violation == HOPELESS
    assert _record(FULL, "clean_accuracy", clean=1).violation == HOPELESS
    refuse_empty_front([early])


def test_a_turn_replaces_no_folder_but_its_own(digits_folder, tmp_path) -> None:
    plain = parse(Params, TINY)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds files that are not from this command, and would be replaced; give"):
        candidates.run(plain, digits_folder, tmp_path)
    assert (tmp_path / "thesis.tex").exists()
    first = candidates.run(plain, digits_folder, tmp_path / "turn")
    assert candidates.run(plain, digits_folder, tmp_path / "turn") == first
