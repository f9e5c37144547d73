"""The live view of a search in a terminal: what is running, the front so far, and how much of the budget is left.

Every column has a fixed width, and lines are built from segments by hand: rich's own tables would take a few per cent
of a core away from training, four times a second.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.cells import set_cell_size
from rich.console import Console, RenderableType
from rich.live import Live
from rich.segment import Segment, Segments
from rich.style import Style

from parapet.progress import Progress, clock
from parapet.report import wording

# From so many columns on there is room for whole ids and long bars; what a candidate is needs so many for itself.
_WIDE, _LEAST_ABOUT = 110, 12
# From so many lines on there is room for notes, and for empty lines between the parts.
_LOW, _HIGH = 12, 30
_NOTES, _GAP, _LONGEST_BAR = 3, 2, 40
_BOLD, _DIM, _GREEN = Style(bold=True), Style(dim=True), Style(color="green")
_SPACE = Segment(" " * _GAP)
Running = tuple[str, str, float, str, float]
Line = list[Segment]


@dataclass(frozen=True)
class _Column:
    size: int
    heading: str = ""
    right: bool = False

    def cell(self, pieces: Line) -> Line:
        """`pieces` in just this width, and the gap to the next column."""
        pieces = _cropped(pieces, self.size)
        pad = [Segment(" " * (self.size - sum(piece.cell_length for piece in pieces)))]
        return [*pad, *pieces, _SPACE] if self.right else [*pieces, *pad, _SPACE]


_FRONT = (_Column(7, "clean", right=True), _Column(19, "robust (95 %)"), _Column(6, "FLOPs", right=True),
          _Column(9, "latency", right=True))


@dataclass(frozen=True)
class Snapshot:
    """A search at one moment.

    `of` says which generation this is ("3 of 8", or "3" where nobody knows of how many). `running` has (id, what it
    does, its share from 0 to 1, its genome in words, seconds since it began) for each candidate that is being measured.
    `front` has archive records. `hypervolume_before` is that of a generation ago, None in the first one. `spent` is the
    share of `budget`, which is in the user's words; `seconds_left` None is not known yet.
    """

    generation: int
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
    notes: tuple[str, ...] = ()


class Watch:
    """Shows the newest snapshot in a terminal, drawn anew four times a second; elsewhere the plain lines of `Progress`.

    A context manager with the arguments and the methods of `Progress`, and `show`. Notes stand below the view while it
    lasts; in the end all of them are left above it, each a line of its own.
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
            self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=4,
                              vertical_overflow="crop")
            self._live.start()
        else:
            self._progress.__enter__()
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if self._live is None:
            self._progress.__exit__(kind, *error)
            return
        told, self._notes = self._all_notes(), []
        if self._snapshot is not None:
            self._snapshot = dataclasses.replace(self._snapshot, notes=())
        if told:
            self._console.print("\n".join(told), markup=False, highlight=False)
        self._live.stop()

    def update(self, done: float, text: str) -> None:
        """`done` units are finished, and `text` is going on; seen in a terminal until there is a snapshot."""
        self._progress.update(done, text)

    def note(self, text: str) -> None:
        """Something that happened."""
        if self._live is None:
            self._progress.note(text)
        else:
            self._notes.append(text)

    def show(self, snapshot: Snapshot) -> None:
        """From now on `snapshot` is what is seen. Cheap; nothing is drawn here."""
        self._snapshot = snapshot

    def _all_notes(self) -> tuple[str, ...]:
        """Those of the snapshot and those that were told; one that came both ways is one."""
        others = [note for note in self._snapshot.notes if note not in self._notes] if self._snapshot else []
        return (*others, *self._notes)

    def _picture(self) -> RenderableType:
        size = self._console.size
        if self._snapshot is None:
            status = f"{self._progress.title}  {self._progress.status()}"
            return _picture([[_text(status)], *_last(self._all_notes())], size.width)
        # One line stays free, so that the cursor below the view scrolls nothing away.
        return render(dataclasses.replace(self._snapshot, notes=self._all_notes()), size.width, size.height - 1)


def render(snapshot: Snapshot, width: int, height: int = 23) -> RenderableType:
    """A picture of `snapshot`, at most `width` columns and `height` lines (from 8 on); no line wraps.

    Of the front the most robust come first. Where not all candidates fit, the last line of a table says how many more
    there are; running ones leave the front half of the lines, if it needs them.
    """
    notes = _last(snapshot.notes) if height >= _LOW else []
    gap: list[Line] = [[]] if height >= _HIGH else []
    # Beside the rows of the tables: the header, two headings, the budget, the hypervolume.
    rows = max(2, height - 5 - len(notes) - 3 * len(gap))
    running = min(max(1, len(snapshot.running)), max(rows // 2, rows - max(1, len(snapshot.front))))
    wide = width >= _WIDE
    name, bar = _Column(12 if wide else 7, "running"), _Column(24 if wide else 12)
    members = sorted(snapshot.front, key=lambda record: (-record["validation"]["robust_accuracy"], record["flops"]))
    return _picture([
        _header(snapshot), *gap,
        *_table(width, (name, bar, _Column(5, right=True), _Column(7, right=True), _Column(17)), snapshot.running,
                lambda candidate: _running(candidate, name.size, bar.size), running, "nothing"), *gap,
        *_table(width, (dataclasses.replace(name, heading="front"), *_FRONT), members,
                lambda record: _member(record, name.size), rows - running, "nobody yet"), *gap,
        _spent(snapshot, width), _hypervolume(snapshot), *notes], width)


def _header(snapshot: Snapshot) -> Line:
    infeasible = f", {snapshot.infeasible:,} infeasible" if snapshot.infeasible else ""
    return [_text(f"generation {snapshot.of}", _BOLD),
            _text(f"   {snapshot.evaluated:,} evaluated{infeasible}, {len(snapshot.front):,} on the front")]


def _running(candidate: Running, letters: int, bar: int) -> list[Line]:
    name, text, share, genome, seconds = candidate
    return [[_text(name[:letters])], _bar(share, bar), [_text(_percent(min(1.0, share)))], [_text(clock(seconds))],
            [_text(text)], [_text(genome, _DIM)]]


def _member(record: dict[str, Any], letters: int) -> list[Line]:
    validation, latency = record["validation"], record["latency_ms"]
    low, high = validation["robust_interval"]
    return [[_text(record["id"][:letters])], [_text(wording.percent(validation["clean_accuracy"]))],
            [_text(wording.percent(validation["robust_accuracy"])), _text(f"  {100 * low:.1f}–{100 * high:.1f}", _DIM)],
            [_text(wording.count(record["flops"]))],
            [_text(wording.milliseconds(latency["p50"]) if latency else "-")],
            [_text(wording.describe(record["genome"]), _DIM)]]


def _spent(snapshot: Snapshot, width: int) -> Line:
    seconds = snapshot.seconds_left
    left = "time left not known yet" if seconds is None else f"about {clock(max(0.0, seconds))} left"
    text = _text(f"{_percent(snapshot.spent)} of {snapshot.budget}, {left}")
    return [*_bar(snapshot.spent, max(0, min(_LONGEST_BAR, width - _GAP - text.cell_length))), _SPACE, text]


def _hypervolume(snapshot: Snapshot) -> Line:
    before = snapshot.hypervolume_before
    gain = "" if before is None else f" ({snapshot.hypervolume - before:+.4f} since the generation before)"
    return [_text(f"hypervolume {snapshot.hypervolume:.4f}{gain}")]


def _last(notes: Sequence[str]) -> list[Line]:
    return [[_text(note, _DIM)] for note in notes[-_NOTES:]]


def _table(width: int, columns: Sequence[_Column], items: Sequence[Any], draw: Callable[[Any], list[Line]], lines: int,
           none: str) -> list[Line]:
    """The headings of those columns that fit, and `lines` lines at most: rows, and how many items have none.

    `draw` makes the cells of an item, one a column, and one more for what is left of the line if that is enough.
    """
    while len(columns) > 1 and sum(column.size + _GAP for column in columns) - _GAP > width:
        columns = columns[:-1]
    about = width - sum(column.size + _GAP for column in columns)
    shown = items if len(items) <= lines else items[:max(0, lines - 1)]
    table = [[piece for column in columns for piece in column.cell([_text(column.heading, _BOLD)])]]
    for item in shown:
        *cells, last = draw(item)
        row = [piece for column, cell in zip(columns, cells, strict=False) for piece in column.cell(cell)]
        table.append(row + last if about >= _LEAST_ABOUT else row)
    if len(shown) < len(items):
        table.append([_text(f"and {len(items) - len(shown):,} more", _DIM)])
    return table if items else [*table, [_text(none, _DIM)]]


def _bar(share: float, size: int) -> Line:
    """Heavy up to `share`, light from there: to be told apart without colours too."""
    done = round(min(1.0, share) * size)
    return [Segment("━" * done, _GREEN), Segment("─" * (size - done), _DIM)]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _text(text: str, style: Style | None = None) -> Segment:
    """`text` as one piece of one line, without anything that would move the cursor."""
    return Segment(text if text.isprintable() else "".join(filter(str.isprintable, " ".join(text.split()))), style)


def _cropped(line: Line, width: int) -> Line:
    """The first `width` columns of `line`, the last of them an ellipsis where there are more."""
    if sum(piece.cell_length for piece in line) <= width:
        return line
    kept: Line = []
    for piece in line:
        left = width - sum(piece.cell_length for piece in kept)
        if piece.cell_length >= left:
            return [*kept, Segment(set_cell_size(piece.text, max(0, left - 1)) + "…" * (left > 0), piece.style)]
        kept.append(piece)
    return kept


def _picture(lines: Sequence[Line], width: int) -> Segments:
    return Segments([piece for line in lines for piece in (*_cropped(line, width), Segment.line())])
