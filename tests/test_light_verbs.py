"""Verbs that only read take along nothing that trains, searches or draws: a look at a front takes no seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "pymoo", "scipy", "pandas", "plotly", "mlflow", "onnx", "onnxruntime", "jsonschema", "sklearn"}


@pytest.mark.parametrize("modules", [
    "parapet.cli.promote, parapet.promotion.choice, parapet.promotion.gate",
    "parapet.cli.archive, parapet.cli.archive_text, parapet.store.archive",
    "parapet.store.front_file, parapet.store.results"])
def test_what_only_reads_imports_nothing_heavy(modules: str) -> None:
    code = f"import sys, {modules}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    assert set(done.stdout.split()) & HEAVY == set()


@pytest.mark.parametrize("words", [["--version"], ["serach"], ["search", "--help"]])
def test_who_asks_for_help_or_slips_waits_for_nothing_heavy(words: list[str]) -> None:
    code = (f"import sys, atexit; sys.argv = ['parapet', *{words}]; from parapet.cli import main\n"
            "atexit.register(lambda: print('\\n', *sorted({name.split('.')[0] for name in sys.modules})))\n"
            "main()")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    found = set(done.stdout.splitlines()[-1].split())
    assert "parapet" in found and found & (HEAVY | {"numpy", "kfp", "jinja2"}) == set()


def test_the_report_draws_without_plotly_s_classes_and_pandas() -> None:
    """They are imported by a thread of MLflow's too: two threads that import pandas at once broke the report."""
    code = "import sys, parapet.steps.report; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    assert set(done.stdout.split()) & {"plotly", "pandas", "pymoo", "mlflow"} == set()
