"""The live view: what a snapshot looks like at a given size, in a real terminal, and without one."""

from __future__ import annotations

import dataclasses
import io
import os
import pty
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

from parapet.genome import Genome
from parapet.watch import Running, Snapshot, Watch, render
from tests.search.archive_records import line as record

SMALL, MEDIAN = Genome(width=4, depth=1), Genome(denoiser="median", denoiser_stage=2)
FRONT = (record(0.9412, 0.6523, 82_432, genome=SMALL, id="00c0ffee1234", latency_ms={"p50": 0.0123}),
         record(0.9, 1.0, 1_234_567, genome=MEDIAN, id="abcdef012345", latency_ms=None))
SNAPSHOT = Snapshot(
    of="3 of 8", running=(Running("1a2b3c4d5e6f", "epoch 3/8", 0.375, str(SMALL), 41.7),
                                        Running("9f8e7d6c5b4a", "attack pgd_margin", 0.9, str(MEDIAN), 3725.0)),
    front=FRONT, hypervolume=0.61234, hypervolume_before=0.60823, evaluated=1057, infeasible=4, spent=0.44,
    budget="2 hours", seconds_left=761.0)
NOTE = "generation 2 is done: 12 on the front"


def drawn(snapshot: Snapshot, width: int, height: int = 23, notes: Sequence[str] = (NOTE,)) -> list[str]:
    """The lines of the picture, without colours and without spaces at their ends."""
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(render(snapshot, width, height, notes), end="")
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_snapshot_in_eighty_columns() -> None:
    assert drawn(SNAPSHOT, 80) == [
        "generation 3 of 8   1,057 evaluated, 4 infeasible, 2 on the front",
        "running",
        "1a2b3c4  ━━━━────────   38 %     0:41  epoch 3/8          plain 4x1 relu, trade…",
        "9f8e7d6  ━━━━━━━━━━━─   90 %  1:02:05  attack pgd_margin  plain 16x2 relu, medi…",
        "front      clean  robust (95 %)         FLOPs    latency",
        "abcdef0   90.0 %  100.0 %  99.6–100.0  1.23 M          -  plain 16x2 relu, medi…",
        "00c0ffe   94.1 %  65.2 %  62.2–68.1    82.4 k  0.0123 ms  plain 4x1 relu, trade…",
        "━━━━━━━━━━━━━━━━━━──────────────────────  44 % of 2 hours, about 12:41 left",
        "hypervolume 0.6123 (+0.0041 since the generation before)",
        "generation 2 is done: 12 on the front",
    ]


def test_a_snapshot_in_a_large_terminal_has_room_between_its_parts() -> None:
    assert drawn(SNAPSHOT, 140, 39) == [
        "generation 3 of 8   1,057 evaluated, 4 infeasible, 2 on the front",
        "",
        "running",
        "1a2b3c4d5e6f  ━━━━━━━━━───────────────   38 %     0:41  epoch 3/8          plain 4x1 relu, trades beta 4",
        "9f8e7d6c5b4a  ━━━━━━━━━━━━━━━━━━━━━━──   90 %  1:02:05  attack pgd_margin  plain 16x2 relu, median denoiser "
        "after stage 2, trades beta 4",
        "",
        "front           clean  robust (95 %)         FLOPs    latency",
        "abcdef012345   90.0 %  100.0 %  99.6–100.0  1.23 M          -  plain 16x2 relu, median denoiser after stage "
        "2, trades beta 4",
        "00c0ffee1234   94.1 %  65.2 %  62.2–68.1    82.4 k  0.0123 ms  plain 4x1 relu, trades beta 4",
        "",
        "━━━━━━━━━━━━━━━━━━──────────────────────  44 % of 2 hours, about 12:41 left",
        "hypervolume 0.6123 (+0.0041 since the generation before)",
        "generation 2 is done: 12 on the front",
    ]


def test_a_search_that_has_just_begun() -> None:
    begun = Snapshot("1", (), (), 0.0, None, 0, 0, 0.0, "200 candidates", None)
    assert drawn(begun, 80, notes=()) == [
        "generation 1   0 evaluated, 0 on the front", "running", "nothing",
        "front      clean  robust (95 %)         FLOPs    latency", "no candidate yet",
        "────────────────────────────────  0 % of 200 candidates, time left not known yet", "hypervolume 0.0000"]


def test_columns_that_do_not_fit_are_left_out() -> None:
    assert drawn(SNAPSHOT, 44, 11) == [
        "generation 3 of 8   1,057 evaluated, 4 infe…",
        "running",
        "1a2b3c4  ━━━━────────   38 %     0:41",
        "9f8e7d6  ━━━━━━━━━━━─   90 %  1:02:05",
        "front      clean  robust (95 %)",
        "abcdef0   90.0 %  100.0 %  99.6–100.0",
        "00c0ffe   94.1 %  65.2 %  62.2–68.1",
        "━━━━─────  44 % of 2 hours, about 12:41 left",
        "hypervolume 0.6123 (+0.0041 since the gener…",
    ]


def test_what_does_not_fit_is_counted_and_the_most_robust_stay() -> None:
    front = tuple(record(0.9, place / 100, id=f"{place:012d}") for place in range(40))
    running = tuple(Running(f"{place:012x}", "export", 0.5, "plain", 1.0) for place in range(20))
    lines = drawn(dataclasses.replace(SNAPSHOT, front=front, running=running), 80, notes="abcde")
    assert len(lines) == 23
    assert lines[8] == "and 14 more" and lines[2].startswith("0000000")
    assert lines[17] == "and 33 more" and lines[10].startswith("0000000   90.0 %  39.0 %")
    assert lines[-3:] == ["c", "d", "e"]
    alone = drawn(dataclasses.replace(SNAPSHOT, front=front), 80)
    assert len(alone) == 23 and alone[-4] == "and 26 more"
    crowded = drawn(dataclasses.replace(SNAPSHOT, running=running), 80)
    assert len(crowded) == 23 and "and 6 more" in crowded and crowded[-4].startswith("00c0ffe")


def test_an_overspent_budget_and_a_smaller_hypervolume_are_told_as_they_are() -> None:
    lines = drawn(dataclasses.replace(SNAPSHOT, spent=1.04, seconds_left=-3.0, hypervolume=0.6), 80)
    assert f"{'━' * 40}  104 % of 2 hours, about 0:00 left" in lines
    assert "hypervolume 0.6000 (-0.0082 since the generation before)" in lines


def test_notes_and_genomes_move_no_cursor_and_are_no_markup() -> None:
    lines = drawn(SNAPSHOT, 80, notes=("[red]it\nfailed\x1b[2J[/red]",))
    assert lines[-1] == "[red]it failed[2J[/red]"


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 200), st.integers(8, 60), st.integers(0, 30), st.integers(0, 30), st.text(max_size=300))
def test_no_picture_is_larger_than_its_place(width: int, height: int, running: int, front: int, note: str) -> None:
    lines = drawn(dataclasses.replace(
        SNAPSHOT, running=SNAPSHOT.running[:1] * running, front=FRONT[1:] * front), width, height,
        (note, "日本語" * 99))
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


class Terminal:
    """A pseudo-terminal, and everything that was written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._seen = bytearray()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            while chunk := os.read(self._master, 1 << 16):
                self._seen += chunk
        except OSError:  # how Linux tells that the other side is closed
            pass

    def close(self) -> str:
        self.stream.close()
        self._thread.join()
        os.close(self._master)
        return self._seen.decode()


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n").replace("\r", "\n")


def test_a_terminal_shows_each_snapshot_and_keeps_the_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "80"), ("LINES", "24")):
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    with Watch("search", 33, "candidates", terminal.stream) as watch:
        watch.update(3, "generation 1: starting workers")
        watch.note("going on with search 1a2b3c: 3 candidates are there already")
        time.sleep(1.5)
        watch.show(SNAPSHOT)
        watch.note("generation 2 is done: 12 on the front")
        time.sleep(1.5)
        watch.show(dataclasses.replace(SNAPSHOT, of="4 of 8"))
    seen = _plain(terminal.close())
    assert re.search(r"search  3/33 candidates  elapsed 0:0\d  generation 1: starting workers", seen)
    assert "generation 3 of 8   1,057 evaluated" in seen
    assert max(len(line) for line in seen.split("\n")) <= 80
    # At the end the notes are above the last picture.
    last = seen[seen.rindex("generation 4 of 8"):]
    assert "is done" not in last and last.rstrip().endswith("(+0.0041 since the generation before)")
    assert "3 candidates are there already\ngeneration 2 is done: 12 on the front\ngeneration 4 of 8" in seen
    picture = seen[seen.index("generation 3 of 8"):]
    assert picture[:picture.index("generation", 1)].count("running") == 1


def test_without_a_terminal_there_are_the_plain_lines_of_progress(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream, Watch("search", 4, "candidates", stream) as watch:
        watch.update(2, "epoch 3/9")
        watch.show(SNAPSHOT)
        watch.note("generation 1 is done")
        watch.update(4, "")
    assert (tmp_path / "log").read_text().splitlines() == [
        "search  0/4 candidates  elapsed 0:00  starting", "generation 1 is done",
        "search  4/4 candidates  elapsed 0:00"]


def test_a_terminal_that_cannot_draw_is_given_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with Watch("search", 4, "candidates", terminal.stream) as watch:
        watch.show(SNAPSHOT)
        time.sleep(0.3)
    assert "generation 3" not in terminal.close()


def test_a_picture_costs_little_more_than_printing_its_lines() -> None:
    """Compared in pairs, so that a busy machine slows both: the tables cost about 4 times as much as the bare lines,
    and would cost 8 times as much if every candidate had cells of its own."""
    console = Console(file=io.StringIO(), width=140, height=40, force_terminal=True, color_system="truecolor")
    snapshot = dataclasses.replace(SNAPSHOT, front=FRONT * 100, running=SNAPSHOT.running * 4)
    lines = Text("\n".join(drawn(snapshot, 140, 39)))

    def seconds(draw: Callable[[], RenderableType]) -> float:
        started = time.process_time()
        console.print(draw())
        return time.process_time() - started

    assert median(seconds(lambda: render(snapshot, 140, 39)) / seconds(lambda: lines) for _ in range(30)) < 6


def test_the_view_is_drawn_once_a_second_however_often_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawings = 0

    def counted(*arguments: Any) -> RenderableType:
        nonlocal drawings
        drawings += 1
        return render(*arguments)

    monkeypatch.setattr("parapet.watch.render", counted)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    with Watch("search", 33, "candidates", terminal.stream) as watch:
        started = time.monotonic()
        while time.monotonic() < started + 2.5:
            watch.show(dataclasses.replace(SNAPSHOT, spent=time.monotonic()))
            time.sleep(0.01)
        assert 1 <= drawings <= time.monotonic() - started
    terminal.close()
