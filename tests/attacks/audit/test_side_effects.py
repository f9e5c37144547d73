"""Side effects outside the process are detected, reading and printing are none; each test in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
needs_counts = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the kernel counts no writes")


def _told(act: str, folder: Path) -> str:
    program = f"""
import os, socket, sqlite3, subprocess, sys, torch
from parapet.attacks.audit.side_effects import side_effect_of
network = torch.nn.Linear(400, 400)
def act():
    {act}
print(side_effect_of(act) or "nothing")
open("later", "w").close()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"})
    return done.stdout.strip()


@pytest.mark.parametrize(("act", "said"), [
    ("open('kept', 'a').write('x')", "writes to kept"),
    ("os.open('kept', os.O_RDWR | os.O_CREAT)", "writes to kept"),
    ("os.mkdir('kept')", "changes files"), ("sqlite3.connect(':memory:')", "opens a database"),
    ("subprocess.run([sys.executable, '-c', ''])", "starts a process"),
    ("socket.socket().connect_ex(('127.0.0.1', 9))", "opens a connection")])
def test_what_python_opens_is_seen(act: str, said: str, tmp_path: Path) -> None:
    assert _told(act, tmp_path) == said


@needs_counts
def test_what_other_code_writes_is_counted(tmp_path: Path) -> None:
    assert _told("torch.save(torch.ones(3), 'kept.pt')", tmp_path).startswith("writes to ")


@pytest.mark.parametrize("act", [
    "network(torch.rand(500, 400)).sum().backward()",
    "print('answered'); print('warned', file=sys.stderr)", "open(sys.executable, 'rb').read(100)"])
def test_an_answer_a_print_and_a_file_that_is_read_are_none(act: str, tmp_path: Path) -> None:
    assert _told(act, tmp_path) == "nothing"
