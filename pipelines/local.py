"""Runs the pipeline on this machine with kfp.local: the same components as on a cluster, each in its own process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from parapet import errors
from parapet.catalogue import plugins
from parapet.config import Params, to_dict
from parapet.disk.files import replacing_folder
from parapet.errors import WorkError
from parapet.progress import Progress
from parapet.steps import places
from pipelines.layout import Layout

# The folder of the tasks' outputs, which the next run deletes, and the log file in it.
_WORK, _LOG = ".kfp", "pipeline.log"
# Patterns of the files in that folder, for `places.check_scratch`.
_OWN = (_LOG, "tmp/*", "locks/*", "workspace/*")
# Folders that are copied into the output folder.
_RESULTS = ("search", "evaluation", "onnx", "report", "plots")
_TICK = 0.5
_ERROR = re.compile(r"^\s*parapet\.errors\.(\w+): (.+)$", re.MULTILINE)
_TASK = re.compile(r"(?:for-loop-(?P<generation>\d+)-iteration-(?P<candidate>\d+)/)?"
                   r"(?P<name>[a-z-]+?)(?:-(?P<turn>\d+))?")


def run(params: Params, out: Path, data_root: str, layout: Layout | None = None, image: str | None = None) -> Path:
    """Run the pipeline, write its results to the folder `out`, and return the path of the HTML report.

    `data_root` is the argument of the component data_prep; `layout` divides the search into tasks. With `image` every
    task runs in a container of this image, which needs a Docker engine; `data_root` is then a path in the container.
    The output of kfp.local and of the tasks is written to .kfp/pipeline.log. Raises the error of the failed task where
    it is one of Parapet's, else WorkError.
    """
    from pipelines.robust_search import NAME  # imported here: it imports kfp, which takes a second

    out = out.resolve()
    work = out / _WORK
    log = work / _LOG
    places.check(out, folders=_RESULTS)
    places.check_scratch(work, (*_OWN, f"{NAME}-*"))
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    (work / "tmp").mkdir(parents=True)
    layout = layout or Layout()
    job = {"params": to_dict(params), "plugins": plugins.inheritance(), "layout": to_dict(layout),
           "root": str(work), "image": image,
           "arguments": {"data_root": data_root, "locks": str(work / "locks")}}
    with (_started(job, log, work / "tmp") as process,
          Progress("pipeline", layout.tasks(params), "tasks") as progress):
        code: int | None = None
        seen: set[Path] = set()
        while code is None:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_TICK)
            for done in sorted(set(_finished(work)) - seen, key=lambda path: path.stat().st_mtime):
                seen.add(done)
                progress.note(_describe(done.parent, work))
            progress.update(len(seen), "")
    if code != 0:
        raise _failure(log)
    for pattern in ("*/front/assembled", "*/report/reported"):
        [folder] = work.glob(pattern)
        _copy(folder, out)
    return out / "report" / "index.html"


@contextmanager
def _started(job: dict[str, Any], log: Path, temporary: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process that runs the pipeline; it and all its tasks are killed at the end of the block."""
    # kfp.local writes the source of every task into a temporary folder.
    environment = {**os.environ, "TMPDIR": str(temporary)}
    if folders := job["plugins"]["folders"]:  # tasks get only the names of plugins, and import them from here
        environment["PYTHONPATH"] = os.pathsep.join([*filter(None, [environment.get("PYTHONPATH")]), *folders])
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-m", "pipelines.local_process"], stdin=subprocess.PIPE,
                                   stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, env=environment)
    stdin = cast(IO[bytes], process.stdin)  # not None because of stdin=PIPE
    try:
        stdin.write(json.dumps(job).encode() + b"\n")
        stdin.flush()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        stdin.close()


def _finished(work: Path) -> Iterator[Path]:
    """One file per finished task; these are counted because in a loop kfp.local may lose lines of its log."""
    for pattern in ("*/*/executor_output.json", "*/for-loop-*/*/executor_output.json"):
        yield from work.glob(pattern)


def _describe(task: Path, work: Path) -> str:
    """A message about a finished task: `training is done: generation 1, candidate 3` for the folder
    .../for-loop-2-iteration-2/training-1."""
    # The folders that `_finished` searches always match.
    match = cast(re.Match[str], _TASK.fullmatch("/".join(task.relative_to(work).parts[1:])))
    name = match["name"].replace("-", "_")
    if match["generation"] is not None:
        what = "batch" if name == "measure" else "candidate"
        # The exit handler, which contains the loops, has number 1.
        return f"{name} is done: generation {int(match['generation']) - 1}, {what} {int(match['candidate']) + 1}"
    return f"{name} is done: turn {match['turn'] or 1}" if name in ("candidates", "search") else f"{name} is done"


def _failure(log: Path) -> Exception:
    """The last Parapet error in the log, else a WorkError that names the log."""
    found = _ERROR.findall(log.read_text(encoding="utf-8", errors="replace"))
    if found and isinstance(kind := getattr(errors, found[-1][0], None), type):
        failure: Exception = kind(found[-1][1])
        return failure
    return WorkError(f"a task of the pipeline failed; {log} tells which, and why.")


def _copy(source: Path, out: Path) -> None:
    """Copy every file and folder of `source` into `out`, replacing existing ones."""
    for entry in sorted(source.iterdir()):
        if entry.is_dir():
            with replacing_folder(out / entry.name) as partial:
                shutil.copytree(entry, partial, dirs_exist_ok=True)
        else:
            shutil.copyfile(entry, out / entry.name)
