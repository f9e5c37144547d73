"""Kubeflow's cache, as kfp.local has it: the same inputs and image hit, another image misses, and what depends on the
world is always done. Takes about two minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """
import sys, warnings
from pathlib import Path
from kfp import local
from parapet.config import load
from pipelines.robust_search import build
warnings.simplefilter("ignore")
root, image = Path(sys.argv[1]), sys.argv[2]
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root / "root"), raise_on_error=True,
           workspace_root=str(root / "workspace"), enable_caching=True, cache_root=str(root / "cache"))
build(load(Path("tests/pipelines/same_front_params.yaml")), image)(data_root=str(Path("data").resolve()))
"""


@pytest.mark.slow
def test_the_same_hits_another_image_misses_and_the_outcome_is_always_told(tmp_path: Path) -> None:
    done: set[Path] = set()

    def executed(image: str) -> list[str]:
        """The tasks that really ran."""
        subprocess.run([sys.executable, "-c", RUN, str(tmp_path), image], cwd=ROOT, check=True, capture_output=True)
        new = set(tmp_path.glob("root/**/executor_output.json")) - done
        done.update(new)
        return sorted(path.parent.name for path in new)
    (tmp_path / "workspace").mkdir()
    first = executed("parapet:one")
    assert first.count("training") + first.count("training-2") == 5 and "outcome" in first
    assert executed("parapet:one") == ["outcome"]
    assert executed("parapet:two") == first
