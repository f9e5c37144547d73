"""dvc.yaml: every stage depends on all code that its outputs come from, so that DVC never says "up to date" wrongly."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# What any stage may import without depending on it, because no output's content comes from it: sentences,
# locks, progress on the terminal, and telemetry.
WITHOUT_INFLUENCE = {"__init__", "cores", "errors", "log", "progress", "quoting", "redaction", "schemas", "tracking",
                     "watch"}
# The search draws its progress with the report's words, the full evaluation its intervals alone are of the report.
ALSO = {"search": {"report"}}
_REFERENCE = re.compile(r"(parapet(?:\.\w+)+)(?::\w+)?")


def _file(module: str) -> Path | None:
    place = SOURCE / Path(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists()), None)


def _named(path: Path) -> set[str]:
    """Modules that a file imports anywhere, or names as "module:function" for another process.

    The catalogue names all code that there is; a stage that builds or trains something imports it by itself.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "catalogue" not in path.parts:
            found |= {match[1] for match in [_REFERENCE.fullmatch(node.value)] if match}
    return found


def closure(module: str) -> set[Path]:
    """The files of the library that `module` may run."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or path in found:
            continue
        found.add(path)
        parts = name.split(".")
        waiting += [".".join(parts[:count]) for count in range(2, len(parts))]
        waiting += [other for other in _named(path) if other.split(".")[0] == "parapet"]
    return found


def _room(path: Path) -> str:
    return path.relative_to(SOURCE / "parapet").parts[0].removesuffix(".py")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_it_runs(stage: str) -> None:
    listed = [ROOT / name for name in STAGES[stage]["deps"]]
    missing = sorted(str(path.relative_to(ROOT)) for path in closure(f"parapet.steps.{stage}")
                     if _room(path) not in WITHOUT_INFLUENCE | ALSO.get(stage, set())
                     and not any(path == place or place in path.parents for place in listed))
    assert not missing


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_run(stage: str) -> None:
    run = closure(f"parapet.steps.{stage}")
    for name in STAGES[stage]["deps"]:
        place = ROOT / name
        if SOURCE in place.parents:
            assert any(path == place or place in path.parents for path in run), f"{stage} never imports {name}"


def test_the_closure_follows_imports_in_functions_and_the_names_of_workers_functions() -> None:
    search = {str(path.relative_to(SOURCE / "parapet")) for path in closure("parapet.steps.search")}
    assert {"steps/training.py", "training/loop.py", "data/images.py", "processes/worker.py"} <= search
