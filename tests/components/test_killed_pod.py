"""A training pod that is killed goes on, in a new pod, from the checkpoint that lies in the shared volume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from parapet.disk.files import file_digest, read_json
from parapet.store import results
from tests.components.component_sections import sections
from tests.components.test_component_bodies import TINY, ask, dataset  # noqa: F401 (a fixture)

ROOT = Path(__file__).parents[2]
POD = """
import json, sys
from kfp.dsl import Dataset, Model
import components
job = json.loads(sys.stdin.read())
components.training.python_func(**job["sections"], locks="", workspace=job["workspace"], proposal=job["proposal"],
                                dataset=Dataset(uri=job["dataset"]), candidate=Model(uri=job["out"]))
"""


def pod(job: dict, out: Path) -> subprocess.Popen:
    """A process with nothing of an earlier one but the shared volume; it leads a group, as the first in a container."""
    process = subprocess.Popen([sys.executable, "-c", POD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, start_new_session=True)
    process.stdin.write(json.dumps({**job, "out": str(out)}))
    process.stdin.close()
    return process


def said_by(process: subprocess.Popen) -> str:
    text = process.stdout.read()
    assert process.wait() == 0, text
    return text


def test_the_next_pod_goes_on_from_the_checkpoint(tmp_path, dataset):  # noqa: F811
    epochs = 40
    settings = {**TINY, "training": {**TINY["training"], "epochs": epochs, "validate_every": 1,
                                     "checkpoint_seconds": 0.0}}
    proposal = ask(dataset, tmp_path / "archive")[1]
    proposal["fidelity"]["epochs"] = epochs
    job = {"sections": sections("training", **settings), "proposal": json.dumps(proposal), "dataset": dataset.path,
           "workspace": str(tmp_path / "undisturbed")}
    said_by(pod(job, tmp_path / "whole"))
    job["workspace"] = str(tmp_path / "shared")
    killed, until = pod(job, tmp_path / "first"), time.monotonic() + 60
    while not list((tmp_path / "shared/checkpoints").rglob(results.CHECKPOINT)) and time.monotonic() < until:
        time.sleep(0.005)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "first" / results.TRAINING).exists()
    said_by(pod(job, tmp_path / "second"))
    whole, second = (read_json(tmp_path / name / results.TRAINING) for name in ("whole", "second"))
    assert file_digest(tmp_path / "second" / results.WEIGHTS) == file_digest(tmp_path / "whole" / results.WEIGHTS)
    assert second["curves"][0]["time"] < second["started"] < second["curves"][-1]["time"]
    assert whole["started"] < whole["curves"][0]["time"]
    assert not list((tmp_path / "shared/checkpoints").rglob(results.CHECKPOINT))
