"""Tables on standard output, in windows of any width."""

from __future__ import annotations

import pytest
from rich.box import SIMPLE_HEAD
from rich.table import Table

from parapet.cli.tables import show

NUMBERS = ["4,096", "100.0%", "97.2-100.0 %", "1,234,567", "0.0123"]
ADVICE = "Raise the steps and the restarts of the white-box attacks, and look at the loss of each step."


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_cell_is_cut(columns: int, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    table = Table(box=SIMPLE_HEAD)
    for name in ("met", "alone", "95 % interval", "gradients", "distance"):
        table.add_column(name, no_wrap=True)
    table.add_column("what to do")
    table.add_row(*NUMBERS, ADVICE)
    show(table)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert all(number in printed for number in NUMBERS)
