"""The live view of a search in a terminal: what is running, the front so far, and how much of the budget is left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TextIO

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from parapet.progress import Progress, clock
from parapet.report import wording

# From this width on, ids are shown in full and bars are longer; a genome is shown in this many columns or more.
_WIDE, _NARROWEST_GENOME = 110, 12
# From these heights on there are notes, and empty lines between the parts.
_WITH_NOTES, _WITH_GAPS = 12, 30
_NOTES, _GAP, _LONGEST_BAR = 3, 2, 40


class Running(NamedTuple):
    """A candidate that is being measured: `share` of it, 0 to 1, is done; `seconds` is the time since it began."""

    id: str
    text: str
    share: float
    genome: str
    seconds: float


@dataclass(frozen=True)
class Snapshot:
    """The state of a search at one moment.

    `of` is the current generation in words: "3 of 8", or "3" if the number of generations is not known. `front` has
    archive records. `hypervolume_before` is that of the previous generation, None in the first one. `spent` is the used
    share of `budget`, which is in the user's words. `seconds_left` is None while it is not known yet.
    """

    of: str
    running: tuple[Running, ...]
    front: tuple[dict[str, Any], ...]
    hypervolume: float
    hypervolume_before: float | None
    evaluated: int
    infeasible: int
    spent: float
    budget: str
    seconds_left: float | None


class Watch:
    """Shows the newest snapshot in a terminal, drawn once a second; without one, the plain lines of `Progress`.

    A context manager with the arguments and methods of `Progress`, and `show`. Notes are shown below the view; at the
    end all of them are printed above it.
    """

    def __init__(self, title: str, total: float, unit: str, stream: TextIO | None = None) -> None:
        self._progress = Progress(title, total, unit, stream)
        self._console = Console(file=stream or sys.stdout)
        self._live: Live | None = None
        self._snapshot: Snapshot | None = None
        self._notes: list[str] = []

    def __enter__(self) -> Watch:
        can_draw = not self._console.is_dumb_terminal and self._console.encoding.startswith("utf")
        if self._console.is_terminal and can_draw:
            # More drawings would take processor time from training, and the clocks in the view show whole seconds.
            self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=1,
                              vertical_overflow="crop")
            self._live.start()
        else:
            self._progress.__enter__()
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if self._live is None:
            self._progress.__exit__(kind, *error)
            return
        notes, self._notes = self._notes, []
        if notes:
            self._console.print("\n".join(notes), markup=False, highlight=False)
        self._live.stop()

    def update(self, done: float, text: str) -> None:
        """`done` units are finished, and `text` is in progress; a terminal shows this until the first snapshot."""
        self._progress.update(done, text)

    def note(self, text: str) -> None:
        """Show something that happened."""
        if self._live is None:
            self._progress.note(text)
        else:
            self._notes.append(text)

    def show(self, snapshot: Snapshot) -> None:
        """Show `snapshot` from the next drawing on. Cheap: nothing is drawn here."""
        self._snapshot = snapshot

    def _picture(self) -> RenderableType:
        if self._snapshot is None:
            status = f"{self._progress.title}  {self._progress.status()}"
            return Group(_line(status), *_last(self._notes))
        # One line stays free for the cursor below the view; without it the terminal would scroll.
        return render(self._snapshot, self._console.width, self._console.height - 1, self._notes)


def render(snapshot: Snapshot, width: int, height: int, notes: Sequence[str] = ()) -> RenderableType:
    """A picture of `snapshot`, at most `width` columns and `height` lines (8 or more); no line wraps.

    The most robust members of the front come first. A table that is too long ends with the number of rows left out;
    the running candidates take at most half of the lines if the front needs the rest. The last `notes` stand below the
    tables if there is room.
    """
    below = _last(notes) if height >= _WITH_NOTES else []
    gap = [""] if height >= _WITH_GAPS else []
    # Five lines are no rows: the header, two headings, the budget, the hypervolume.
    rows = max(2, height - 5 - len(below) - 3 * len(gap))
    running = min(max(1, len(snapshot.running)), max(rows // 2, rows - max(1, len(snapshot.front))))
    name, bar = (12, 24) if width >= _WIDE else (7, 12)
    members = sorted(snapshot.front, key=lambda record: (-record["validation"]["robust_accuracy"], record["flops"]))
    return Group(
        _header(snapshot), *gap,
        *_table(_running_columns(name, bar), snapshot.running, width, running, none="nothing"), *gap,
        *_table(_front_columns(name), members, width, rows - running, none="no candidate yet"), *gap,
        _budget(snapshot, width), _hypervolume(snapshot), *below)


class _Column(NamedTuple):
    """`size` characters wide; None is the rest of the line. `cell` gives the text of an item."""

    heading: str
    size: int | None
    cell: Callable[[Any], str | Text]
    justify: JustifyMethod = "left"


def _running_columns(name: int, bar: int) -> list[_Column]:
    return [_Column("running", name, lambda candidate: candidate.id[:name]),
            _Column("", bar, lambda candidate: _bar(candidate.share, bar)),
            _Column("", 5, lambda candidate: _percent(min(1.0, candidate.share)), "right"),
            _Column("", 7, lambda candidate: clock(candidate.seconds), "right"),
            _Column("", 17, lambda candidate: candidate.text),
            _Column("", None, lambda candidate: _line(candidate.genome, "dim"))]


def _front_columns(name: int) -> list[_Column]:
    return [_Column("front", name, lambda record: record["id"][:name]),
            _Column("clean", 7, lambda record: wording.percent(record["validation"]["clean_accuracy"]), "right"),
            _Column("robust (95 %)", 19, lambda record: _robust(record["validation"])),
            _Column("FLOPs", 6, lambda record: wording.count(record["flops"]), "right"),
            _Column("latency", 9, lambda record: _latency(record["latency_ms"]), "right"),
            _Column("", None, lambda record: _line(wording.describe(record["genome"]), "dim"))]


def _table(columns: Sequence[_Column], items: Sequence[Any], width: int, lines: int, none: str) -> list[RenderableType]:
    """The columns that fit into `width`, with at most `lines` lines below the headings."""
    shown = items if len(items) <= lines else items[:max(0, lines - 1)]
    table = Table.grid(padding=(0, _GAP, 0, 0))
    row, left = [], width
    for column in columns:
        size = left if column.size is None else column.size
        if left < size or (column.size is None and size < _NARROWEST_GENOME):
            break
        table.add_column(width=size, justify=column.justify, no_wrap=True, overflow="ellipsis")
        cells = (column.cell(item) for item in shown)
        # One cell holds the whole column, which takes rich half the processor time of a cell for each item.
        row.append(Text("\n").join([Text(column.heading, "bold"),
                                    *(cell if isinstance(cell, Text) else _line(cell) for cell in cells)]))
        left -= size + _GAP
    table.add_row(*row)
    if len(shown) < len(items):
        return [table, _line(f"and {len(items) - len(shown):,} more", "dim")]
    return [table] if items else [table, _line(none, "dim")]


def _header(snapshot: Snapshot) -> Text:
    infeasible = f", {snapshot.infeasible:,} infeasible" if snapshot.infeasible else ""
    counts = f"   {snapshot.evaluated:,} evaluated{infeasible}, {len(snapshot.front):,} on the front"
    return _line("").append(f"generation {snapshot.of}", "bold").append(counts)


def _robust(validation: dict[str, Any]) -> Text:
    low, high = validation["robust_interval"]
    return Text.assemble(wording.percent(validation["robust_accuracy"]), (f"  {100 * low:.1f}–{100 * high:.1f}", "dim"))


def _latency(latency: dict[str, Any] | None) -> str:
    return wording.milliseconds(latency["p50"]) if latency else "-"


def _budget(snapshot: Snapshot, width: int) -> Text:
    seconds = snapshot.seconds_left
    left = "time left not known yet" if seconds is None else f"about {clock(max(0.0, seconds))} left"
    text = _line(f"  {_percent(snapshot.spent)} of {snapshot.budget}, {left}")
    bar = _bar(snapshot.spent, max(0, min(_LONGEST_BAR, width - text.cell_len)))
    return _line("").append_text(bar).append_text(text)


def _hypervolume(snapshot: Snapshot) -> Text:
    before = snapshot.hypervolume_before
    gain = "" if before is None else f" ({snapshot.hypervolume - before:+.4f} since the generation before)"
    return _line(f"hypervolume {snapshot.hypervolume:.4f}{gain}")


def _last(notes: Sequence[str]) -> list[Text]:
    return [_line(note, "dim") for note in notes[-_NOTES:]]


def _bar(share: float, size: int) -> Text:
    """Heavy up to `share` and light after it, so that it can be read without colours too."""
    done = round(min(1.0, share) * size)
    return Text.assemble(("━" * done, "green"), ("─" * (size - done), "dim"))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _line(text: str, style: str = "") -> Text:
    """`text` as one line that is cut instead of wrapped, without control characters, which could move the cursor."""
    printable = text if text.isprintable() else "".join(filter(str.isprintable, " ".join(text.split())))
    return Text(printable, style, no_wrap=True, overflow="ellipsis")
