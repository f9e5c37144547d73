"""The child's side of `local`: kfp.local alone in a process group, so that it can be ended with all it started.

Run as `python -m pipelines.local_process`. kfp.local starts every waiting task of a loop before it lets an
interruption through, and its tasks outlive it; this process ends with its parent and takes its whole group along.
Reads {params, plugins, layout, arguments, root, image} as one JSON line.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import TextIO

from kfp import local

from components.image import IMAGE
from parapet.catalogue import plugins
from parapet.config import Params, parse
from pipelines.layout import Layout
from pipelines.robust_search import build

# The image's own.
_USER = 1000


def main() -> None:
    """Run the pipeline that standard input describes, until it is done or standard input ends."""
    parent = os.fdopen(os.dup(sys.stdin.fileno()))
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())  # the tasks must not hold the parent's pipe open
    job = json.loads(parent.readline())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    warnings.simplefilter("ignore")  # the image and the names to display mean nothing here, as kfp says of each task
    workspace = Path(job["root"]) / "workspace"
    workspace.mkdir()
    image = job["image"]
    runner = _containers(Path(job["root"])) if image else local.SubprocessRunner(use_venv=False)
    local.init(runner, pipeline_root=job["root"], workspace_root=str(workspace), raise_on_error=True)
    plugins.inherit(job["plugins"])
    build(parse(Params, job["params"]), image or IMAGE, layout=parse(Layout, job["layout"]))(**job["arguments"])


def _containers(root: Path) -> local.DockerRunner:
    """Containers as a cluster's restricted namespaces have them: not root, nothing to write to but volumes and /tmp."""
    user = os.getuid()
    if user == 0:
        user = _USER
        for folder in (root, *root.iterdir()):
            shutil.chown(folder, user, user)
    # The container's own, in memory.
    return local.DockerRunner(user=f"{user}:{user}", read_only=True, cap_drop=["ALL"], tmpfs={"/tmp": "exec"},  # nosec B108
                              security_opt=["no-new-privileges"])


def _end_with(parent: TextIO) -> None:
    for _ in parent:
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
