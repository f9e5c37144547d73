"""All steps of a candidate in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parapet.config import Params, parse, to_dict
from parapet.data.info import read_info
from parapet.errors import WorkError
from parapet.search.session import Session
from parapet.steps import attack_evaluation, export, measure, training
from tests.steps.tiny import TINY


def test_results_that_are_damaged_as_they_are_written_end_the_search_with_a_sentence(
        digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a candidate once had no result and no reason either: the search ended with a TypeError, and an undefended
    network counted as measured."""
    def nothing(*given: Any, **options: Any) -> None:
        """Leaves no file that holds."""

    for step in (training, attack_evaluation, export):
        monkeypatch.setattr(step, "run", nothing)
    params, info = parse(Params, TINY), read_info(digits_folder)
    proposal = Session(params, info, "cpu").ask(lambda: False)[1]
    with pytest.raises(WorkError, match=f"^what was measured of candidate {proposal.id} was damaged while it was "
                                        "written to .*; run the same command again.$"):
        measure.run(proposal=proposal.to_json(), params=to_dict(params), dataset=str(digits_folder),
                    cache=str(tmp_path), device="cpu")
