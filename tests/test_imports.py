"""Imports point one way: pipelines -> components -> steps; inside the library as the layers below say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "parapet"

# A module may import from its own layer and from the layers below it.
LAYERS = (
    ("errors", "disk", "redaction", "versions", "log", "quoting"),
    ("catalogue", "schemas"),
    ("config", "genome", "fidelity", "cores", "intervals"),
    ("models", "data"),
    ("attacks",),
    ("training", "deployment"),
    ("report", "tracking", "progress", "watch", "devices", "store"),
    ("processes",),
    ("search",),
    ("registry", "verification"),
    ("promotion",),
    ("steps",),
    ("forecast",),
    ("cli",),
)
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
# The library knows nothing of what drives it; mlflow is for tracking and registry alone.
FORBIDDEN = {"kfp", "dvc", "components", "pipelines"}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def violations(path: Path, room: str) -> list[str]:
    """Every import of `path`, a file of `room`, that points upwards or outside."""
    found = []
    for name in sorted(_imports(path)):
        parts = name.split(".")
        if parts[0] in FORBIDDEN or (parts[0] == "mlflow" and room not in ("tracking", "registry")):
            found.append(f"{path.name} imports {name}")
        if parts[0] == "parapet" and len(parts) > 1 and parts[1] in LEVEL and LEVEL[parts[1]] > LEVEL[room]:
            found.append(f"{path.name} ({room}) imports {name}")
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_imports_upwards(path: Path) -> None:
    room = _room(path)
    if room == "__init__":
        return
    assert room in LEVEL, f"{room} has no layer in {__file__}; decide where it belongs"
    assert violations(path, room) == []


def test_the_rule_sees_an_upward_import(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("from parapet.steps import search\nimport kfp\nimport mlflow\n")
    assert len(violations(planted, "models")) >= 3


@pytest.mark.parametrize("folder", ["components", "pipelines"])
def test_drivers_reach_the_library_through_its_steps(folder: str) -> None:
    allowed = {"components": {"cli", "config", "cores", "devices", "disk", "errors", "processes", "promotion",
                              "search", "steps", "store", "tracking"},
               "pipelines": {"catalogue", "cli", "config", "cores", "disk", "errors", "processes",
                             "progress", "quoting", "redaction", "steps"}}[folder]
    for path in (ROOT / folder).rglob("*.py"):
        for name in _imports(path):
            parts = name.split(".")
            assert not (folder == "components" and parts[0] == "pipelines"), f"{path.name} imports {name}"
            if parts[0] == "parapet" and len(parts) > 1 and parts[1] in LEVEL:
                assert parts[1] in allowed, f"{path} imports {name}"


def test_training_and_attacks_need_torch_numpy_and_safetensors_alone() -> None:
    """They also run on machines that have nothing else."""
    code = ("import sys; sys.modules.update({name: None for name in ('scipy', 'sklearn', 'pymoo', 'mlflow', 'onnx', "
            "'onnxruntime', 'onnxscript', 'torchvision', 'pandas', 'matplotlib', 'kfp', 'dvc', 'rich', 'jsonschema', "
            "'filelock', 'psutil', 'moocore', 'plotly', 'jinja2')}); "
            "import parapet.training.loop, parapet.attacks.suite, parapet.attacks.audit, "
            "parapet.attacks.minimum_norm.deepfool, parapet.models, parapet.data.dataset; print('fine')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr


def test_a_search_s_driver_does_without_torch() -> None:
    """It only watches its workers; torch would cost it half a gigabyte."""
    code = ("import sys; import parapet.cli.parser, parapet.steps.search, parapet.steps.full_evaluation; "
            "print('torch' in sys.modules, 'mlflow' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False False", done.stdout + done.stderr
