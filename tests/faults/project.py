"""A project folder to be harmed: a tiny search of the digits and everything behind it, kept stage by stage.

MLflow's local database names its folder in full, so a project always lies at the same place of its work folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from tests.faults.processes import ROOT, Case
from tests.finished_search import members

# Nothing listens on the port of this address.
AWAY = "http://127.0.0.1:9"
SETTINGS: dict[str, Any] = {
    "tracking": {"enabled": False, "experiment": "faults", "system_metrics_seconds": 0},
    "search": {"population": 2, "generations": 1, "workers": 2, "minimum_clean_accuracy": 0.0,
               "space": {"backbone": ["plain"], "width": [4, 6], "depth": [1], "denoiser": ["none"],
                         "input_filter": ["none"], "activation": ["relu"], "loss": ["pgd"], "clean_share": [0.0],
                         "trades_beta": [0.0], "steps": [1], "learning_rate": [0.4]}},
    "training": {"epochs": 2, "validate_every": 1, "checkpoint_seconds": 0},
    "attack_evaluation": {"images": 40, "rapid_steps": 2, "rapid_queries": 5, "audit_images": 20},
    "export": {"latency_runs": 10, "latency_seconds": 0, "latency_warmup": 1, "throughput_batch": 0},
    "full_evaluation": {"images": 40, "pgd_steps": 2, "pgd_restarts": 1, "deepfool_steps": 2, "audit_images": 20,
                        "apgd_steps": 2, "apgd_targets": 2, "fab_steps": 2, "square_queries": 5, "stored_images": 2,
                        "calibration_images": 16, "int8_images": 10, "int8_queries": 2},
    "front": {"keep_failed_audits": True},
    "promotion": {"lock_seconds": 3, "audit_images": 0, "minimum_robust_accuracy": 0.0},
}
_LONGEST = 900
# Everything that is made on the way, in order: the stage, and the verb that leads to it with its environment.
_MADE: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (
    ("bare", ("data", "fetch", "digits"), {}),
    ("prepared", ("data_prep",), {}),
    ("waiting", ("search", "--params", "tracked.yaml"), {"MLFLOW_TRACKING_URI": AWAY}),
    ("searched", ("sync", "--params", "tracked.yaml"), {}),
    ("evaluated", ("full_evaluation",), {}),
    ("assembled", ("front", "--params", "tracked.yaml"), {}),
    ("reported", ("report",), {}),
    ("promoted", ("promote", "--candidate", "WORSE"), {}),
    ("twice", ("promote", "--candidate", "BETTER"), {}),
)


class Project:
    """The folder `place` below the work folder `work`, which can be put into any stage."""

    def __init__(self, work: Path) -> None:
        self.work, self.place, self.stages = work.resolve(), work.resolve() / "project", work.resolve() / "stages"

    def begin(self, *, keep: bool = False) -> None:
        """Forget the stages that were made by other code than today's, unless they are to be kept all the same."""
        mark = self.stages / "made-by.txt"
        if keep and mark.exists():
            return
        if not mark.exists() or mark.read_text() != _code():
            for path in (self.stages, self.work / "references"):
                shutil.rmtree(path, ignore_errors=True)
            self.stages.mkdir(parents=True)
            mark.write_text(_code())

    def need(self, stage: str) -> None:
        """Make a stage, and those before it, unless they are there. It leaves the project anywhere."""
        names = ["empty", *(name for name, _, _ in _MADE)]
        if (self.stages / stage).exists():
            return
        if stage == "empty":
            self.empty()
        else:
            before = names[names.index(stage) - 1]
            self.restore(before)
            _, words, environment = _MADE[names.index(stage) - 1]
            end = Case(self.work).run([self.named(word) for word in words], _LONGEST, environment)
            if end.code != 0:
                raise RuntimeError(f"the undisturbed project could not be built: {end.command} ended with {end.code}\n"
                                   f"{end.said}{end.error}")
        partial = self.stages / f"{stage}.new"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(self.place, partial, symlinks=True)
        partial.rename(self.stages / stage)

    def empty(self) -> None:
        """A folder with params.yaml, tracked.yaml, and nothing else."""
        self.clear()
        self.place.mkdir(parents=True, exist_ok=True)
        self.write_settings()

    def write_settings(self) -> None:
        """params.yaml and tracked.yaml, as they are before anything is disturbed."""
        (self.place / "params.yaml").write_text(json.dumps(SETTINGS, indent=1))
        tracked = {**SETTINGS, "tracking": {**SETTINGS["tracking"], "enabled": True}}
        (self.place / "tracked.yaml").write_text(json.dumps(tracked, indent=1))

    def clear(self) -> None:
        """Remove what lies in the folder; the folder itself may be a mounted file system."""
        for path in self.place.iterdir() if self.place.exists() else ():
            path.chmod(0o755) if path.is_dir() and not path.is_symlink() else None
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def restore(self, stage: str) -> None:
        """Put the folder into a stage."""
        self.need(stage)
        self.clear()
        shutil.copytree(self.stages / stage, self.place, dirs_exist_ok=True, symlinks=True)

    def named(self, word: str) -> str:
        """A word of a command line, with the ids of this project's candidates for BETTER and WORSE."""
        for name in ("BETTER", "WORSE"):
            if name in word:
                word = word.replace(name, self._ids()[name])
        return word

    def _ids(self) -> dict[str, str]:
        """Both are on the front; a gate lets a better one follow on a worse one."""
        self.need("assembled")
        source = self.stages / "assembled"
        pair = sorted(members(source / "artifacts"), key=lambda each: each["test"]["robust_accuracy"])
        return dict(zip(("WORSE", "BETTER"), (member["id"] for member in pair)))


def _code() -> str:
    """A digest of everything that the stages depend on."""
    found = hashlib.sha256(json.dumps([SETTINGS, _MADE]).encode())
    for path in sorted((ROOT / "src/parapet").rglob("*")):
        if path.suffix in (".py", ".json", ".yaml", ".html", ".css", ".js", ".md"):
            found.update(path.read_bytes())
    return found.hexdigest()
