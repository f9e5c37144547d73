"""Tables on standard output."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_WIDEST = 10_000


def show(table: Table) -> None:
    """Print a table without cutting a cell, which would make another number of it.

    Columns that may not wrap are as wide as their cells, also where a terminal then breaks lines; others are folded.
    """
    console = Console()
    for column in table.columns:
        column.overflow = "fold"
        if column.no_wrap:
            column.min_width = max(console.measure(cell).maximum for cell in (column.header, *column.cells))
    needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).minimum
    console.width = max(console.width, needed)
    console.print(table)
