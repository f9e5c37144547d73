"""The draw of mutants: what is drawn, and that a mutant is one small change of code that runs."""

from __future__ import annotations

import ast

import pytest

pytest.importorskip("cosmic_ray", reason="make mutants installs it")

from tests.mutation import drawing  # noqa: E402

CODE = """from __future__ import annotations
def half(value: int | None, low: float = 0.5) -> float | None:
    return None if value is None else value * low
"""


def test_a_mutant_is_one_change_of_code_that_still_parses() -> None:
    found = drawing.mutants("half.py", CODE)
    assert len(found) > 5
    for mutant in found:
        changed = mutant.apply(CODE)
        ast.parse(changed)
        assert changed != CODE
        before, after = CODE.splitlines(), changed.splitlines()
        assert [number for number, (one, other) in enumerate(zip(before, after), 1) if one != other] == [mutant.line]


def test_annotations_are_left_alone() -> None:
    places = {(mutant.line, mutant.column) for mutant in drawing.mutants("half.py", CODE)}
    assert (2, CODE.splitlines()[1].index("|")) not in places
    assert any(line == 3 for line, _ in places)


def test_a_draw_is_the_same_for_a_seed_and_takes_a_place_once(tmp_path) -> None:
    for module in drawing.SUBJECTS:
        path = tmp_path / (module if module.endswith(".py") else f"{module}/one.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CODE)
    first = drawing.draw(tmp_path, 20, seed=0)
    assert first == drawing.draw(tmp_path, 20, seed=0) != drawing.draw(tmp_path, 20, seed=1)
    assert len({(one.module, one.line, one.column) for one in first}) == 20


def test_a_mutant_of_other_code_is_refused() -> None:
    mutant = drawing.mutants("half.py", CODE)[-1]
    with pytest.raises(ValueError, match="is not in this code; draw again."):
        mutant.apply("pass\n")
