"""Threads import nothing: two that import at once meet each other's half-made modules."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Every thread that this project starts, and why it imports nothing. One that is not here has to be looked at.
THREADS = {
    "pipelines/local_process.py": "reads a pipe and kills its group",
    "src/parapet/attacks/audit/query_modes.py": "asks a model, for which the thread that asks waits",
    "src/parapet/attacks/audit/fresh_copies.py": "waits for its parent to end",
    "src/parapet/processes/parent_watch.py": "looks at a process, or at a file's time",
    "src/parapet/progress.py": "writes a line; in a terminal rich has drawn once before its thread starts",
    "src/parapet/processes/worker.py": "reads lines of JSON",
    "src/parapet/tracking/background.py": "load_sending, before it starts",
    "src/parapet/registry/promotion_lock.py": "the first sign of life is given before it starts",
    "src/parapet/tracking/system_metrics.py": "load_monitors, before it starts",
}
# A child process, because here everything is imported already.
CHILD = """
import sys, threading
from pathlib import Path

class Watch:
    seen = []
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            self.seen.append(f"{threading.current_thread().name}: {name}")

sys.meta_path.insert(0, Watch())
from parapet.tracking import BackgroundSender, SystemMetrics
from tests.tracking.tracked_story import Story

story = Story(Path(sys.argv[2]))
sender = BackgroundSender(story.outbox, sys.argv[1], story.experiment, story.artifact_root)
machine = SystemMetrics(story.outbox, 0.05)
story.tell()
threading.Event().wait(0.5)
machine.close()
print("waiting", sender.close(120))
# What is not installed is looked for with each request, and leaves nothing half made.
print("imported", [seen for seen in Watch.seen if seen.partition(": ")[2] in sys.modules])
"""


def _watched(uri: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", CHILD, uri, str(folder)], capture_output=True, text=True,
                          env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_threads_that_tell_a_database_import_nothing(tmp_path: Path) -> None:
    assert _watched(f"sqlite:///{tmp_path}/mlflow.db", tmp_path).splitlines() == ["waiting 0", "imported []"]


def test_the_threads_that_tell_a_server_import_nothing(tmp_path: Path, server) -> None:
    assert _watched(server.uri, tmp_path).splitlines() == ["waiting 0", "imported []"]


def test_every_thread_is_one_that_was_looked_at() -> None:
    found = set()
    for folder in ("src", "components", "pipelines"):
        for path in (ROOT / folder).rglob("*.py"):
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
            if names & {"Thread", "Timer", "ThreadPoolExecutor", "ThreadPool", "start_new_thread", "to_thread"}:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == set(THREADS)


@pytest.mark.parametrize("path", sorted(THREADS))
def test_no_function_that_a_thread_runs_has_an_import_in_it(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    targets = {ast.unparse(word.value).removeprefix("self.") for node in ast.walk(tree) if isinstance(node, ast.Call)
               and ast.unparse(node.func).endswith("Thread") for word in node.keywords if word.arg == "target"}
    targets |= {"is_over"} & functions.keys()
    targets |= {ast.unparse(node.args[0]) for node in ast.walk(tree) if isinstance(node, ast.Call)
                and ast.unparse(node.func).endswith(".submit")}
    assert targets
    todo, seen = list(targets), set()
    while todo:
        name = todo.pop()
        if name in seen or name not in functions or name == "_monitors":  # loaded before: `load_monitors`
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            assert not isinstance(node, ast.Import | ast.ImportFrom), f"{name} imports in a thread"
            if isinstance(node, ast.Call):
                todo.append(ast.unparse(node.func).removeprefix("self."))
