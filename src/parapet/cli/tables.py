"""Tables on standard output."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_WIDEST = 10_000


def show(table: Table, *, whole_lines: bool = False) -> None:
    """Print a table without cutting a cell, because a number that lost digits is another number.

    Columns that may not wrap are as wide as their cells, even if a terminal then breaks lines; the others are folded.
    With `whole_lines`, and without a terminal, nothing is folded or framed: one line for each row, for programs.
    """
    console = Console()
    for column in table.columns:
        column.overflow = "fold"
        if column.no_wrap:
            column.min_width = max(console.measure(cell).maximum for cell in (column.header, *column.cells))
    if whole_lines and not console.is_terminal:
        table.box, console.width = None, _WIDEST
        with console.capture() as captured:
            console.print(table)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))
        return
    needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).minimum
    console.width = max(console.width, needed)
    console.print(table)
