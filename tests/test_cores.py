"""The readers-writer lock on the cores: shared holders run together, an exclusive holder alone and without starving."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from parapet.cores import Cores, FreeCores, cpu_count


def test_shared_holders_run_together_and_the_exclusive_one_waits_for_them(tmp_path: Path) -> None:
    cores, events = Cores(tmp_path), []
    both = threading.Barrier(3)

    def work() -> None:
        with cores.shared():
            both.wait(5)
            time.sleep(0.3)
            events.append("worked")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait(5)  # both hold the shared lock at once
    with cores.exclusive():
        events.append("timed")
    assert events == ["worked", "worked", "timed"]


def test_no_shared_lock_is_granted_while_an_exclusive_one_is_held(tmp_path: Path) -> None:
    cores, began = Cores(tmp_path), threading.Event()

    def work() -> None:
        with cores.shared():
            began.set()

    with cores.exclusive():
        threading.Thread(target=work).start()
        assert not began.wait(0.3)
    assert began.wait(5)


def test_the_exclusive_lock_is_not_starved(tmp_path: Path) -> None:
    cores, stop = Cores(tmp_path), threading.Event()

    def work() -> None:
        while not stop.is_set():
            with cores.shared():
                time.sleep(0.05)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    with cores.exclusive():
        waited = time.monotonic() - started
    stop.set()
    assert waited < 2


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    code = (f"import time; from pathlib import Path; from parapet.cores import Cores\n"
            f"with Cores(Path({str(tmp_path)!r})).shared():\n    print('in', flush=True); time.sleep(60)\n")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        process.kill()
    with Cores(tmp_path).exclusive():
        pass


def test_free_cores_never_wait() -> None:
    with FreeCores().shared(), FreeCores().exclusive():
        pass
    assert cpu_count() >= 1
