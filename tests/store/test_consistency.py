"""An audit's report beside the record that it lowered: what was edited in one of them shows."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from parapet.store.consistency import audit_problems


def _evaluation() -> tuple[dict[str, Any], dict[str, Any]]:
    """Four images, of which the audit looked at the second and the last and broke the last."""
    record = {"outcomes": {"clean": "1111", "pgd": "1101", "audit": "1100", "adaptive": "1000"}}
    audit = {"verdict": "warn", "checks": [{"id": "steps", "verdict": "warn"}, {"id": "noise", "verdict": "pass"}],
             "survived": "10", "rows": [1, 3], "settled": {"by": "rapid", "stages": [{"name": "rapid", "broke": 1}]}}
    return record, audit


def test_what_was_written_contradicts_nothing() -> None:
    assert list(audit_problems(*_evaluation())) == []


@pytest.mark.parametrize(("edit", "sentence"), [
    (lambda record, audit: audit.update(verdict="pass"), "the audit's verdict is pass, and its checks give warn"),
    (lambda record, audit: record["outcomes"].pop("audit"), "there are no outcomes of the audit"),
    (lambda record, audit: record["outcomes"].update(audit="1101"),
     "the audit broke images that its outcomes call right"),
    (lambda record, audit: audit.update(rows=[1]), "the audit names 1 images and has outcomes of 2"),
    (lambda record, audit: record["outcomes"].pop("adaptive"), "there are no outcomes of the adaptive stage"),
])
def test_what_was_edited_shows(edit: Any, sentence: str) -> None:
    record, audit = deepcopy(_evaluation())
    edit(record, audit)
    assert list(audit_problems(record, audit)) == [sentence]


def test_an_audit_that_does_not_say_which_images_it_saw_is_read() -> None:
    record, audit = _evaluation()
    del audit["rows"], audit["settled"]
    assert list(audit_problems(record, audit)) == []
