"""One mutant against the tests that run its line, in a process of its own that has torch already."""

from __future__ import annotations

import ast
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from tests.mutation.drawing import Mutant

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "parapet"
# What every test imports and no mutant changes: imported once, before the processes part.
_PRELOADED = ["torch", "numpy", "scipy.stats", "pytest", "hypothesis", "sklearn.datasets", "pymoo.algorithms.moo.nsga2"]
# Where nothing is known of who runs a line: the tests that mirror its folder.
_MIRRORED = {"attacks": ("tests/attacks",), "training": ("tests/training",),
             "search": ("tests/search/test_selection.py", "tests/search/test_wishes.py", "tests/search/test_front.py",
                        "tests/search/test_keys.py"),
             "steps": ("tests/steps/test_gate.py", "tests/steps/test_comparison.py", "tests/steps/test_promotion.py",
                       "tests/steps/test_after_search.py")}
# A test that looks at every module as it was imported, as coverage would name it.
_ALL_MODULES = "tests.test_records.test_records_are_frozen"
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"
# Seconds; a test of `make test` takes less, also beside other work.
_ONE_TEST = 180


class Coverage:
    """Which tests run which line, and how long they take, from what `make coverage` leaves."""

    def __init__(self, path: Path, durations: Path) -> None:
        self._lines: dict[str, dict[int, list[str]]] = {}
        self._seconds: Counter[str] = Counter()
        if durations.exists():
            for case in ElementTree.parse(durations).iter("testcase"):
                name = f"{case.get('classname')}.{str(case.get('name')).partition('[')[0]}"
                self._seconds[_node(name) or name] += float(case.get("time", 0))
        self._data = None
        if path.exists():
            from coverage import CoverageData

            self._data = CoverageData(str(path))
            self._data.read()

    def tests(self, mutant: Mutant) -> list[str]:
        """Arguments for pytest: the tests that ran the line, near and quick ones first, else those of its folder."""
        found = sorted({node for context in self._contexts(mutant) if (node := _node(context))},
                       key=lambda node: (_distance(mutant.module, node), int(self._seconds[node]), node))
        # A test may look at a default or a constant, and run no line of the module.
        home, _, file = mutant.module.rpartition("/")
        own = f"tests/{home}/test_{file}"
        if found and not self._inside(mutant) and (ROOT / own).exists():
            found = [own, *(node for node in found if not node.startswith(own))]
        return found or list(_MIRRORED[mutant.module.partition("/")[0]])

    def _inside(self, mutant: Mutant) -> bool:
        return mutant.line in inside_functions((SOURCE / mutant.module).read_text(encoding="utf-8"))

    def _contexts(self, mutant: Mutant) -> Sequence[str]:
        if self._data is None:
            return []
        if mutant.module not in self._lines:
            name = next((file for file in self._data.measured_files()
                         if file.endswith(f"/src/parapet/{mutant.module}")), None)
            self._lines[mutant.module] = self._data.contexts_by_lineno(name) if name else {}
        lines = self._lines[mutant.module]
        if self._inside(mutant):
            return lines.get(mutant.line, [])
        # What is run as the module is imported is known of the first test that did so alone.
        return [_ALL_MODULES, *(context for contexts in lines.values() for context in contexts)]


def try_one(mutant: Mutant, tests: Sequence[str], seconds: float, *, changed: bool = True) -> tuple[str, float]:
    """(KILLED, SURVIVED or TIMED_OUT, seconds that it took): whether a test fails where `mutant` is in place.

    No test begins after `seconds`: where none failed until then, the mutant has survived, which may be too hard on the
    tests and never too kind. TIMED_OUT is one test that does not end. Unless it is `changed`, the code stays as it is.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        library = Path(folder) / "parapet"
        shutil.copytree(SOURCE, library, ignore=shutil.ignore_patterns("__pycache__"))
        module = library / mutant.module
        if changed:
            module.write_text(mutant.apply(module.read_text(encoding="utf-8")), encoding="utf-8")
        process, started = context.Process(target=_run, args=(folder, list(tests), seconds)), time.monotonic()
        process.start()
        process.join(seconds + _ONE_TEST)
        timed_out = process.is_alive()
        if timed_out:
            process.kill()
        process.join()
    outcome = TIMED_OUT if timed_out else SURVIVED if process.exitcode == 0 else KILLED
    return outcome, time.monotonic() - started


def _run(folder: str, tests: list[str], seconds: float) -> None:
    import pytest

    os.chdir(ROOT)
    os.environ["PYTHONPATH"] = folder
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    sys.path[:0] = [folder, str(ROOT)]
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    watch = _Watch(time.monotonic() + seconds)
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu", *tests], plugins=[watch])
    os._exit(0 if watch.ended and not watch.failed else int(code))


class _Watch:
    """A plugin of pytest that lets no test begin after `end`, of the monotonic clock."""

    def __init__(self, end: float) -> None:
        self.end, self.ended, self.failed, self.session = end, False, False, None

    def pytest_sessionstart(self, session) -> None:  # noqa: ANN001
        self.session = session

    def pytest_runtest_logreport(self, report) -> None:  # noqa: ANN001
        self.failed = self.failed or report.failed

    def pytest_runtest_logfinish(self) -> None:
        if not self.failed and time.monotonic() > self.end:
            self.ended, self.session.shouldstop = True, "the time for this mutant is over"


def inside_functions(code: str) -> set[int]:
    """The lines of `code` that run when a function is called, and not as the module is imported."""
    functions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {line for node in functions for line in range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)}


def _distance(module: str, node: str) -> int:
    """0 for the tests of the module itself and a look at all modules, 1 for those of its folder, 2 for all others."""
    home, _, file = module.rpartition("/")
    if node.startswith(f"tests/{home}/test_{file.removesuffix('.py')}") or node == _node(_ALL_MODULES):
        return 0
    return 1 if node.startswith(f"tests/{home}/") else 2


def _node(context: str) -> str | None:
    """`tests.data.test_npz.test_one` as `tests/data/test_npz.py::test_one`; None for what is no test here."""
    module, _, name = context.rpartition(".")
    path = f"{module.replace('.', '/')}.py"
    return f"{path}::{name}" if module.startswith("tests.") and (ROOT / path).exists() else None
