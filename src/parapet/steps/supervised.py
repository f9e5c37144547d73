"""The steps of one candidate, each in a child process that may die: whatever happens, there is a result.

A pod calls these, so that a crash in it is an infeasible candidate with its reason and not a hole in the loop.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from parapet.config import Params, parse, to_dict
from parapet.cores import Cores, FreeCores
from parapet.devices import resolve
from parapet.files import read_json, write_text
from parapet.progress import Progress
from parapet.search.keys import evaluation_key, export_key
from parapet.search.workers import Task, Workers
from parapet.steps import results

_WORK = "parapet.steps.supervised:work"


def training(params: Params, proposal: dict[str, Any], dataset: Path, out: Path, *,
             locks: str = "") -> dict[str, Any]:
    """`training.run` of `proposal` in a child process; `locks` is the folder of the cores' locks, if any."""
    return _supervise("training", params, proposal, dataset, out / results.TRAINING, locks,
                      candidate=proposal["id"], key=proposal["training_key"])


def attack_evaluation(params: Params, candidate: Path, dataset: Path, out: Path, *,
                      locks: str = "") -> dict[str, Any]:
    """`attack_evaluation.run` of folder `candidate` in a child process."""
    trained = read_json(candidate / results.TRAINING)
    return _supervise("attack_evaluation", params, str(candidate), dataset, out / results.ATTACK_EVALUATION, locks,
                      candidate=trained["id"], key=evaluation_key(trained["key"], params, "attack_evaluation"))


def export(params: Params, candidate: Path, dataset: Path, out: Path, *, locks: str = "") -> dict[str, Any]:
    """`export.run` of folder `candidate` in a child process."""
    trained = read_json(candidate / results.TRAINING)
    return _supervise("export", params, str(candidate), dataset, out / results.EXPORT, locks,
                      candidate=trained["id"], key=export_key(trained["key"], params))


def work(*, step: str, params: dict[str, Any], subject: dict[str, Any] | str, dataset: str, out: str, locks: str,
         device: str, progress: results.Report = results.ignore) -> dict[str, Any]:
    """The child's side: `run` of the step called `step`, with JSON for arguments.

    `subject` is what the step works on: a proposal, or the folder that training left.
    """
    run = importlib.import_module(f"parapet.steps.{step}").run
    cores = Cores(Path(locks)) if locks else FreeCores()
    # The graph that ships is timed on the CPU, whatever trained it.
    where = {} if step == "export" else {"device": device}
    return run(parse(Params, params), Path(subject) if isinstance(subject, str) else subject, Path(dataset), Path(out),
               cores=cores, progress=progress, **where)


def _supervise(step: str, params: Params, subject: dict[str, Any] | str, dataset: Path, result: Path, locks: str,
               **common: str) -> dict[str, Any]:
    """The step's result; where the child leaves none, an infeasible one, written to `result`."""
    result.parent.mkdir(parents=True, exist_ok=True)
    task = Task(common["candidate"], _WORK, {
        "step": step, "params": to_dict(params), "subject": subject, "dataset": str(dataset),
        "out": str(result.parent), "locks": locks})
    devices = resolve("cpu" if step == "export" else params.device, workers=1, threads=params.search.threads)
    with (Workers(devices[:1], attempts=params.search.attempts, timeout=params.search.timeout_seconds) as workers,
          Progress(f"{step} {common['candidate'][:6]}", 100, "%") as line):
        [(_, outcome)] = workers.run([task], lambda _, text, share: line.update(100 * share, text))
    if outcome.result is not None:
        return outcome.result
    if outcome.trace:
        write_text(result.with_name("failure.txt"), outcome.trace)
    return results.write(result, **common, status="infeasible", reason=f"{step}: {outcome.reason}")
