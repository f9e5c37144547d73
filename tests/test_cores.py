"""The cores' lock: turns side by side, timing alone, and nobody starves."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from parapet.cores import Cores, FreeCores, cpu_count


def test_turns_run_side_by_side_and_timing_waits_for_them(tmp_path: Path) -> None:
    cores, events = Cores(tmp_path), []
    both = threading.Barrier(3)

    def work() -> None:
        with cores.turn():
            both.wait(5)
            time.sleep(0.3)
            events.append("worked")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait(5)  # both have their turn at once
    with cores.alone():
        events.append("timed")
    assert events == ["worked", "worked", "timed"]


def test_no_turn_begins_while_somebody_times(tmp_path: Path) -> None:
    cores, began = Cores(tmp_path), threading.Event()

    def work() -> None:
        with cores.turn():
            began.set()

    with cores.alone():
        threading.Thread(target=work).start()
        assert not began.wait(0.3)
    assert began.wait(5)


def test_timing_is_not_starved_by_turns_that_never_pause(tmp_path: Path) -> None:
    cores, stop = Cores(tmp_path), threading.Event()

    def work() -> None:
        while not stop.is_set():
            with cores.turn():
                time.sleep(0.05)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    with cores.alone():
        waited = time.monotonic() - started
    stop.set()
    assert waited < 2


def test_a_process_that_is_killed_gives_its_turn_back(tmp_path: Path) -> None:
    code = (f"import time; from pathlib import Path; from parapet.cores import Cores\n"
            f"with Cores(Path({str(tmp_path)!r})).turn():\n    print('in', flush=True); time.sleep(60)\n")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        process.kill()
    with Cores(tmp_path).alone():
        pass


def test_without_neighbours_nothing_waits() -> None:
    with FreeCores().turn(), FreeCores().alone():
        pass
    assert cpu_count() >= 1
