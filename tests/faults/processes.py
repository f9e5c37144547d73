"""The processes of a case: started in its project, waited for, killed, and looked for when they should be gone."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
_PLANTED = Path(__file__).resolve().parent / "planted"
_LEFT_OUT = ("PARAPET_DATA", "PARAPET_DEBUG", "MLFLOW_TRACKING_URI", "DVC_STAGE", "MAKELEVEL", "PYTHONPATH")
# A child that watches its parent looks twice a second; a busy machine makes more of it.
_GONE_WITHIN = 20.0
_LOOK_EVERY = 0.02
_LIGHT = ("torch", "torch._dynamo", "safetensors.torch", "sklearn.datasets", "parapet.cli.parser",
          "parapet.steps.data_prep", "parapet.steps.train")
_IMPORTED = (*_LIGHT, "onnx", "onnxruntime", "plotly.graph_objects", "mlflow",
             "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.onnx",
             "kfp.compiler", "parapet.steps.full_evaluation", "parapet.steps.promotion", "parapet.steps.report",
             "parapet.steps.search", "parapet.steps.attack", "parapet.tracking", "parapet.registry.registration",
             "pipelines.robust_search", "pipelines.compiling", "pipelines.__main__")


@dataclass(frozen=True)
class End:
    """How a process ended: its exit code (None: not in time, and killed), what it said, and after how many seconds."""

    command: str
    code: int | None
    said: str
    error: str
    seconds: float


class Running:
    """A verb that was started as process `pid`, which leads a session of its own."""

    def __init__(self, command: str, pid: int, folder: Path) -> None:
        self.command, self.pid, self.folder = command, pid, folder
        self.code: int | None = None
        self.started = time.monotonic()

    def end(self, limit: float) -> End:
        """Wait for it; a process that takes longer than `limit` seconds is killed with its group."""
        code = self.code if self.ends_within(limit) else None
        seconds = time.monotonic() - self.started
        if code is None:
            self.kill("group")
        said, error = ((self.folder / name).read_text(errors="replace") for name in ("out", "err"))
        return End(self.command, code, said, error, seconds)

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends by itself meanwhile."""
        until = time.monotonic() + seconds
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= until:
                return False
            else:
                time.sleep(_LOOK_EVERY)
        return True

    def children(self) -> list[psutil.Process]:
        """Its living children, and theirs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def kill(self, victim: str, chance: random.Random | None = None, number: int = signal.SIGKILL) -> str:
        """Send a signal to `own` (the verb's process), a `child`, or the `group`; what was hit, in words."""
        if victim == "child" and (children := self.children()):
            child = (chance or random.Random(0)).choice(children)
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(number)
            return "a child"
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if victim == "group" else os.kill)(self.pid, number)
        if number == signal.SIGKILL:
            self.ends_within(_GONE_WITHIN)
        return "the group" if victim == "group" else "its own process"


class Case:
    """What belongs to one case in the work folder `work`: its processes, each in a session that a verb leads."""

    def __init__(self, work: Path, *, fresh: bool = False) -> None:
        self.project, self.folder, self.fresh = work / "project", work / "cases" / uuid.uuid4().hex[:12], fresh
        self.temporary = self.folder / "tmp"
        for folder in (self.folder, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
        self.started: list[Running] = []

    def start(self, words: Sequence[str], environment: Mapping[str, str] | None = None, *,
              prepare: Callable[[], None] | None = None) -> Running:
        """Begin a verb of `parapet`, or of `python -m pipelines` where that is the first word.

        It is forked from this process, which has imported everything already, so that a case takes a second and not
        ten; a `fresh` case starts an interpreter. `prepare` is called in the new process before anything else.
        """
        module, arguments = ("pipelines", words[1:]) if words[0] == "pipelines" else ("parapet.cli", words)
        folder = self.folder / str(len(self.started))
        folder.mkdir()
        everything = self.environment(environment)
        if (pid := os.fork()) == 0:
            try:
                _become(folder, self.project, everything, prepare)
                if self.fresh:
                    os.execve(sys.executable, [sys.executable, "-W", "ignore", "-m", module, *arguments], everything)
                os._exit(_main(module, arguments))
            finally:
                os._exit(99)
        own = " ".join(f"{name}={value}" for name, value in (environment or {}).items())
        running = Running(f"{own} {'' if words[0] == 'pipelines' else 'parapet '}{' '.join(words)}".strip(), pid,
                          folder)
        self.started.append(running)
        return running

    def run(self, words: Sequence[str], limit: float, environment: Mapping[str, str] | None = None, *,
            prepare: Callable[[], None] | None = None) -> End:
        """Begin a verb and wait for its end."""
        return self.start(words, environment, prepare=prepare).end(limit)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """One thread each, a temporary folder of the case's own, and no MLflow but the project's."""
        own = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
        return own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{_PLANTED}:{ROOT / 'src'}:{ROOT}",
                      "TMPDIR": str(self.temporary), "MLFLOW_DISABLE_TELEMETRY": "true"} | dict(more or {})

    def left_behind(self) -> list[str]:
        """Processes of this case that still live a while after its verbs have ended; they are killed then."""
        sessions = {running.pid for running in self.started}
        living = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                    living.append(process)
        found = []
        for process in psutil.wait_procs(living, timeout=_GONE_WITHIN)[1]:
            with contextlib.suppress(psutil.Error):
                found.append(f"process {process.pid} ({' '.join(process.cmdline())[:100]})")
                process.kill()
        return found

    def close(self) -> None:
        """Remove the folder of the case."""
        shutil.rmtree(self.folder, ignore_errors=True)


def import_everything(*, light: bool = False) -> None:
    """What verbs import, once for all that are forked from this process; `light` is for those that need no MLflow."""
    for name in _LIGHT if light else _IMPORTED:
        importlib.import_module(name)


def _become(folder: Path, project: Path, environment: Mapping[str, str], prepare: Callable[[], None] | None) -> None:
    """Make the process that was forked one of a user's: its session, streams, folder and environment."""
    os.setsid()
    for number, path in ((0, os.devnull), (1, folder / "out"), (2, folder / "err")):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666), number)
    os.chdir(project)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    if prepare is not None:
        prepare()


def _main(module: str, arguments: Sequence[str]) -> int:
    """Do what `python -m module` does with these arguments; its exit code."""
    warnings.simplefilter("ignore")
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115, PTH123
    sys.argv = [module, *arguments]
    try:
        _plant()
        code = importlib.import_module("pipelines.__main__" if module == "pipelines" else module).main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _plant() -> None:
    """What a fresh interpreter does at its start."""
    specification = importlib.util.spec_from_file_location("planted", _PLANTED / "sitecustomize.py")
    specification.loader.exec_module(importlib.util.module_from_spec(specification))
