"""The size of a graph's file and the memory of a process that runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from parapet.errors import WorkError

# Without Parapet: a server of the graph has only onnxruntime and numpy.
_CODE = """
import json, sys
import numpy as np
import onnxruntime
def peak():
    # Not getrusage: its maximum includes the memory of the parent at the fork.
    try:
        lines = open("/proc/self/status").read().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
running = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
running.run(None, {running.get_inputs()[0].name: np.zeros(json.loads(sys.argv[2]), np.float32)})
print(json.dumps({"runtime": before, "peak": peak()}))
"""


def footprint(path: Path, image_shape: tuple[int, int, int], *, batch: int = 1) -> dict[str, Any]:
    """{bytes, peak_memory_bytes, runtime_memory_bytes, batch} of the graph at `path`.

    bytes: size of the file. peak_memory_bytes: largest resident memory of a new process that loads the graph and
    computes one batch. runtime_memory_bytes: the part of it that Python, numpy and onnxruntime used before the graph
    was loaded. Raises WorkError where that process fails.
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _CODE, str(path), json.dumps([batch, *image_shape])],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkError(f"{path} could not be run in a separate process: {' '.join(done.stderr.split())[-300:]}")
    memory = json.loads(done.stdout.splitlines()[-1])
    return {"bytes": path.stat().st_size, "peak_memory_bytes": memory["peak"],
            "runtime_memory_bytes": memory["runtime"], "batch": batch}
