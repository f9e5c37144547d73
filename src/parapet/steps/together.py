"""One candidate's training by several processes: started on this machine, or by whoever starts torchrun elsewhere.

`python -m torch.distributed.run ... -m parapet.steps.together REQUEST` does what the file REQUEST asks for and leaves
the folder that it names as `training.run` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from parapet.config import Params, parse, to_dict
from parapet.cores import Cores, FreeCores
from parapet.errors import WorkError
from parapet.files import read_json, write_json
from parapet.steps import results

# What precedes a line of progress; everything else that is printed is kept for the reason of a failure.
_PROGRESS, _KEPT_LINES = "parapet-progress ", 500
COMMAND = ("-m", "torch.distributed.run")
MODULE = ("-m", "parapet.steps.together")


def request(params: Params, proposal: dict[str, Any], dataset: Path, out: Path, *, device: str, start: Path | None,
            checkpoints: Path | None, locks: Path | None = None) -> dict[str, Any]:
    """What a REQUEST holds: the arguments of `training.run`, as JSON."""
    return {"params": to_dict(params), "proposal": proposal, "dataset": str(dataset), "out": str(out),
            "device": device, "start": start and str(start), "checkpoints": checkpoints and str(checkpoints),
            "locks": locks and str(locks), "parent": None}


def train(asked: dict[str, Any], gpus: int, progress: results.Report = results.ignore) -> dict[str, Any]:
    """Have `gpus` processes of this machine do a request; the result that `training.run` wrote.

    Raises WorkError with what the processes said last where one of them dies; the others are ended then.
    """
    with tempfile.TemporaryDirectory(prefix="parapet-") as folder:
        path = Path(folder) / "request.json"
        write_json(path, {**asked, "parent": os.getpid()})
        process = subprocess.Popen(
            [sys.executable, *COMMAND, "--standalone", "--nnodes=1", f"--nproc-per-node={gpus}", *MODULE, str(path)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said: deque[str] = deque(maxlen=_KEPT_LINES)
        try:
            for line in process.stdout or ():
                if line.startswith(_PROGRESS):
                    progress(*json.loads(line.removeprefix(_PROGRESS)))
                else:
                    said.append(line.rstrip())
            code = process.wait()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)  # torchrun ends its processes then
                process.wait()
    if code != 0:
        raise WorkError(f"one of the {gpus} processes that trained together died (torchrun ended with {code}): "
                        f"{_cause(said)}")
    return read_json(Path(asked["out"]) / results.TRAINING)


def _cause(said: Iterable[str]) -> str:
    """What the first process to die died of: the signal that torchrun tells of, or the last line of its traceback."""
    text = "\n".join(said)
    if signals := re.search(r"Root Cause.*?exitcode\s*: -(\d+)", text, re.DOTALL):
        return f"it was ended by signal {signals[1]}"
    # torchrun's own lines begin with a letter and the date, and its report follows them.
    own = re.split(r"^[IWEF]\d{4} ", text, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
    lines = [re.sub(r"^\[rank\d+\]: ", "", line).strip() for line in own]
    return next((line for line in reversed(lines) if line), "it said nothing")


def _end_with(parent: int) -> None:
    """End this process where the one that started torchrun was killed: another attempt would meet it otherwise."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(parent)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    os._exit(1)


def main(path: str) -> None:
    """Take part in the request at `path`, as the process that torchrun's environment says."""
    from parapet.steps import training
    from parapet.training.team import joined

    asked = read_json(Path(path))
    if asked["parent"] is not None:
        threading.Thread(target=_end_with, args=(asked["parent"],), daemon=True).start()

    def tell(text: str, share: float) -> None:
        print(f"{_PROGRESS}{json.dumps([text, share])}", flush=True)

    with joined(device=asked["device"]) as (team, device):
        # Whoever waits for the cores keeps the others waiting in the exchange, so that one lock is enough; two of them
        # could wait for each other.
        cores = Cores(Path(asked["locks"])) if asked["locks"] and team.leads else FreeCores()
        training.run(parse(Params, asked["params"]), asked["proposal"], Path(asked["dataset"]), Path(asked["out"]),
                     device=device, start=asked["start"] and Path(asked["start"]),
                     checkpoints=asked["checkpoints"] and Path(asked["checkpoints"]), cores=cores, team=team,
                     progress=tell if team.leads else results.ignore)


if __name__ == "__main__":
    main(sys.argv[1])
