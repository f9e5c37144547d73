"""The child's side of `local`: kfp.local alone in a process group, so that it can be ended with all it started.

Run as `python -m pipelines.local_process`. kfp.local starts every waiting task of a loop before it lets an
interruption through, and its tasks outlive it; this process ends with its parent and takes its whole group along.
Reads {params, layout, arguments, root} as one JSON line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import TextIO

from kfp import local

from components.image import IMAGE
from parapet.config import Params, parse
from pipelines.layout import Layout
from pipelines.robust_search import build


def main() -> None:
    """Run the pipeline that standard input describes, until it is done or standard input ends."""
    parent = os.fdopen(os.dup(sys.stdin.fileno()))
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())  # the tasks must not hold the parent's pipe open
    job = json.loads(parent.readline())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    warnings.simplefilter("ignore")  # the image and the names to display mean nothing here, as kfp says of each task
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=job["root"],
               workspace_root=str(Path(job["root"]) / "workspace"), raise_on_error=True)
    build(parse(Params, job["params"]), IMAGE, layout=parse(Layout, job["layout"]))(**job["arguments"])


def _end_with(parent: TextIO) -> None:
    for _ in parent:
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
