"""The child process of `local`: runs kfp.local in a process group of its own, which can be killed with all its tasks.

Run as `python -m pipelines.local_process`. On an interruption kfp.local still starts every waiting task of a loop, and
its tasks outlive it; this process therefore kills its whole process group when its parent ends. It reads {params,
plugins, layout, arguments, root, image} as one line of JSON.
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

# The user of the image.
_USER = 1000


def main() -> None:
    """Run the pipeline that standard input describes, until it is done or standard input ends."""
    parent = os.fdopen(os.dup(sys.stdin.fileno()))
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())  # the tasks must not hold the parent's pipe open
    job = json.loads(parent.readline())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    warnings.simplefilter("ignore")  # kfp warns for each task that image and display name have no effect here
    workspace = Path(job["root"]) / "workspace"
    workspace.mkdir()
    image = job["image"]
    runner = _containers(Path(job["root"])) if image else local.SubprocessRunner(use_venv=False)
    local.init(runner, pipeline_root=job["root"], workspace_root=str(workspace), raise_on_error=True)
    plugins.inherit(job["plugins"])
    build(parse(Params, job["params"]), image or IMAGE, layout=parse(Layout, job["layout"]))(**job["arguments"])


def _containers(root: Path) -> local.DockerRunner:
    """Containers as in a cluster's restricted namespaces: not root, and only volumes and /tmp are writable."""
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
