"""Runs one function in several processes together; torchrun starts them, on this machine or on a cluster.

In `python -m torch.distributed.run ... -m parapet.processes.launcher REQUEST` every process calls the function that the
file REQUEST names, with its `team` (rank and size of the group).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from parapet.catalogue import plugins
from parapet.catalogue.spec import resolve
from parapet.disk.files import read_json, write_json
from parapet.errors import InputError, ProcessDied, WorkError, is_out_of_memory
from parapet.processes import deaths
from parapet.processes.parent_watch import end_when, has_ended, is_silent

Report = Callable[[str, float], None]

# The prefix of progress lines, and how many of the other lines are kept, for the reason of a failure.
_PROGRESS, _KEPT_LINES = "parapet-progress ", 500
# Files beside the request: the error of a process, and the heartbeat of the task that waits on another machine.
ERROR, HEARTBEAT = "error.json", "heartbeat"
_KINDS = {kind.__name__: kind for kind in (InputError, WorkError)}
_ABANDONED = 1800.0
COMMAND = ("-m", "torch.distributed.run")
MODULE = ("-m", "parapet.processes.launcher")


def request(function: str, arguments: dict[str, Any], *, device: str) -> dict[str, Any]:
    """The content of a REQUEST, JSON: `function`, "module:name", is called with `arguments`, `device`, `team` and
    `progress`; the first process uses `device`, and the others the GPUs after it."""
    return {"function": function, "arguments": arguments, "device": device, "plugins": plugins.inheritance(),
            "parent": None}


def launch(asked: dict[str, Any], processes: int, progress: Report) -> None:
    """Run the request `asked` in `processes` processes on this machine; `progress` gets the reports of the first one.

    If one process dies, ends the others and raises ProcessDied with the last lines of output. Raises the InputError or
    WorkError that a process raised.
    """
    with tempfile.TemporaryDirectory(prefix="parapet-") as folder:
        path = Path(folder) / "request.json"
        write_json(path, {**asked, "parent": os.getpid()})
        process = subprocess.Popen(
            [sys.executable, *COMMAND, "--standalone", "--nnodes=1", f"--nproc-per-node={processes}", *MODULE,
             str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
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
        raise_told(path.parent)
    if code != 0:
        why, how = _cause(said)
        raise ProcessDied(f"one of the {processes} processes that trained together died (torchrun ended with {code}): "
                          f"{why}", how)


def raise_told(folder: Path) -> None:
    """Raise the InputError or WorkError that a process stored in `folder`, if there is one."""
    if (folder / ERROR).exists():
        told = read_json(folder / ERROR)
        raise _KINDS[told["kind"]](told["text"])


def _cause(said: Iterable[str]) -> tuple[str, str]:
    """(sentence, short reason) for the first process that died: the signal that torchrun reports and the output before
    it, or the last line of the traceback."""
    text = "\n".join(said)
    # torchrun's own lines begin with a letter and the date, and its report follows them.
    own = re.split(r"^[IWEF]\d{4} ", text, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
    lines = [re.sub(r"^\[rank\d+\]: ", "", line).strip() for line in own]
    if signals := re.search(r"Root Cause.*?exitcode\s*: -(\d+)", text, re.DOTALL):
        how = deaths.signal_name(int(signals[1]))
        told = deaths.last_words("\n".join(lines))
        return f"it was ended by signal {signals[1]} ({how}){f'; it had said: {told}' if told else ''}", how
    last = next((line for line in reversed(lines) if line), "it said nothing")
    memory = is_out_of_memory(RuntimeError(last))
    return last, deaths.MEMORY if memory else last.split(":", 1)[0]


def main(path: str) -> None:
    """Run the request at `path` in this process, whose rank is in torchrun's environment variables."""
    from parapet.training.team import process_group

    place = Path(path).parent
    asked = read_json(Path(path))
    # If the parent of torchrun was killed, or the waiting task on another machine is gone, this process must not go on:
    # the next attempt would run beside it.
    end_when(is_silent(place / HEARTBEAT, _ABANDONED) if asked["parent"] is None else has_ended(asked["parent"]))
    with process_group(device=asked["device"]) as (team, device):
        try:
            plugins.inherit(asked["plugins"])
            resolve(asked["function"])(**asked["arguments"], device=device, team=team,
                                       progress=_tell if team.is_main else _ignore)
        except (InputError, WorkError) as error:
            write_json(place / ERROR, {"kind": type(error).__name__, "text": str(error)})
            raise SystemExit(1) from None


def _tell(text: str, share: float) -> None:
    print(f"{_PROGRESS}{json.dumps([text, share])}", flush=True)


def _ignore(text: str, share: float) -> None:
    """Does nothing, because the first process reports for all."""


if __name__ == "__main__":
    main(sys.argv[1])
