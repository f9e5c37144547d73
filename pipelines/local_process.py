"""The child process of `local`: runs kfp.local in its own process group, so that all its tasks can be killed with it.

It is run as `python -m pipelines.local_process`, and reads {params, plugins, layout, arguments, root, image} as one
line of JSON. After an interruption kfp.local still starts every waiting task of a loop, and its tasks continue after
its end. This process therefore kills its whole process group when its parent ends.
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

# The user id in the image.
_USER = 1000


def main() -> None:
    """Run the pipeline that standard input describes; stop when it is done or when standard input is closed."""
    parent = os.fdopen(os.dup(sys.stdin.fileno()))
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())  # so that the tasks do not keep the parent's pipe open
    job = json.loads(parent.readline())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    warnings.simplefilter("ignore")  # kfp warns for every task that its image and display name have no effect
    workspace = Path(job["root"]) / "workspace"
    workspace.mkdir()
    image = job["image"]
    runner = _containers(Path(job["root"])) if image else local.SubprocessRunner(use_venv=False)
    local.init(runner, pipeline_root=job["root"], workspace_root=str(workspace), raise_on_error=True)
    plugins.inherit(job["plugins"])
    build(parse(Params, job["params"]), image or IMAGE, layout=parse(Layout, job["layout"]))(**job["arguments"])


def _containers(root: Path) -> local.DockerRunner:
    """A runner with containers as in a restricted namespace of a cluster: not root, only volumes and /tmp writable."""
    user = os.getuid()
    if user == 0:
        user = _USER
        for folder in (root, *root.iterdir()):
            shutil.chown(folder, user, user)
    # /tmp is in memory, and private to the container.
    return local.DockerRunner(user=f"{user}:{user}", read_only=True, cap_drop=["ALL"], tmpfs={"/tmp": "exec"},  # nosec B108
                              security_opt=["no-new-privileges"])


def _end_with(parent: TextIO) -> None:
    for _ in parent:
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
