"""Runs each step of a candidate in a child process; where the child dies, the result is an infeasible candidate.

The pods of a cluster call these functions, so that a crash gives a result with its reason and does not end the search.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parapet import log
from parapet.config import Params, parse, to_dict
from parapet.cores import Cores, FreeCores
from parapet.data.info import read_info
from parapet.devices import resolve
from parapet.disk.files import write_text
from parapet.errors import ParapetError
from parapet.genome import Genome
from parapet.processes.pool import Task, Workers
from parapet.progress import Progress
from parapet.search import lost
from parapet.search.network_space import SearchSpace
from parapet.steps import measure as measure_step
from parapet.store import results
from parapet.store.keys import evaluation_key, export_key
from parapet.store.records import Proposal

_WORK = "parapet.steps.supervised:work"


def training(params: Params, proposal: dict[str, Any], dataset: Path, out: Path, *, locks: str = "",
             checkpoints: Path | None = None) -> dict[str, Any]:
    """Call `training.run` for `proposal` in a child process; returns its result.

    `locks` is the folder of the lock `Cores`, or empty. A checkpoint in `checkpoints` survives the end of this process.
    """
    return _supervise("training", params, proposal, dataset, out / results.TRAINING, locks,
                      {"checkpoints": str(checkpoints) if checkpoints else None}, candidate=proposal["id"],
                      key=proposal["training_key"])


def attack_evaluation(params: Params, candidate: Path, dataset: Path, out: Path, *,
                      locks: str = "") -> dict[str, Any]:
    """Call `attack_evaluation.run` for the folder `candidate` in a child process; returns its result."""
    trained = results.trained(candidate)
    return _supervise("attack_evaluation", params, str(candidate), dataset, out / results.ATTACK_EVALUATION, locks,
                      candidate=trained["id"], key=evaluation_key(trained["key"], params, "attack_evaluation"))


def export(params: Params, candidate: Path, dataset: Path, out: Path, *, locks: str = "", attacks: Path | None = None,
           revision: str = "unknown") -> dict[str, Any]:
    """Call `export.run` for folder `candidate` in a child process; `attacks` is the output of `attack_evaluation`."""
    trained = results.trained(candidate)
    return _supervise("export", params, str(candidate), dataset, out / results.EXPORT, locks,
                      {"attacks": str(attacks) if attacks else None, "revision": revision}, candidate=trained["id"],
                      key=export_key(trained["key"], params))


def measure(params: Params, proposals: Sequence[dict[str, Any]], dataset: Path, out: Path, cache: Path, *,
            revision: str = "unknown") -> list[str]:
    """Train, attack and export each of `proposals` in child processes, one per device.

    Finished steps are kept in `cache`, so that a repeated call resumes. Writes the files of each candidate to
    `out`/<id>/; for a candidate whose process failed this is a training.json with the reason. Returns the reasons of
    all infeasible candidates, each after the candidate's id.
    """
    reasons: list[str] = []
    info, asked = read_info(dataset), [Proposal.from_json(proposal) for proposal in proposals]
    tasks = [measure_step.task(proposal, params, dataset, cache, info, revision) for proposal in asked]
    devices = resolve(params.device, workers=params.search.workers, threads=params.search.threads,
                      together=params.training.gpus)
    shares = [0.0] * len(tasks)
    with (Workers(devices[:len(tasks)], attempts=params.search.attempts, timeout=params.search.timeout_seconds)
          as workers, Progress("measure", len(tasks), "candidates") as line):
        def show(place: int, text: str, share: float) -> None:
            shares[place] = share
            line.update(sum(shares), f"{tasks[place].name[:6]} {text}")

        for place, outcome in workers.run(tasks, show):
            proposal, folder = asked[place], out / tasks[place].name
            show(place, "done", 1.0)
            for source in measure_step.folders(cache, proposal.training_key, params):
                for name in results.FILES:
                    if (source / name).exists():
                        folder.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(source / name, folder / name)
            reason = outcome.reason if outcome.result is None else outcome.result["reason"]
            if reason is not None:
                reasons.append(f"{proposal.id}: {reason}")
            if outcome.result is None:
                results.write(folder / results.TRAINING, candidate=proposal.id, key=proposal.training_key,
                              status="infeasible", reason=outcome.reason, lost=outcome.lost)
    return reasons


def work(*, step: str, params: dict[str, Any], subject: dict[str, Any] | str, dataset: str, out: str, locks: str,
         device: str, more: dict[str, str | None], progress: results.Report = results.ignore) -> dict[str, Any]:
    """Call `run` of the step named `step` in the child process, with arguments as JSON.

    `subject` is the input of the step: a proposal, or the folder that training wrote. `more` has the arguments that
    only this step takes.
    """
    run = importlib.import_module(f"parapet.steps.{step}").run
    cores = Cores(Path(locks)) if locks else FreeCores()
    # The exported graph is timed on the CPU, also if a GPU trained the network.
    where: dict[str, Any] = {} if step == "export" else {"device": device}
    where |= {name: value if name == "revision" else Path(value) for name, value in more.items() if value is not None}
    worked_on = Path(subject) if isinstance(subject, str) else Proposal.from_json(subject)
    with log.span(step):
        result: dict[str, Any] = run(parse(Params, params), worked_on, Path(dataset), Path(out), cores=cores,
                                     progress=progress, **where)
        return result


def _supervise(step: str, params: Params, subject: dict[str, Any] | str, dataset: Path, result: Path, locks: str,
               more: dict[str, str | None] | None = None, **common: str) -> dict[str, Any]:
    """Run a step in a child process and return its result; if it has none, an infeasible one is written to `result`."""
    result.parent.mkdir(parents=True, exist_ok=True)
    task = Task(common["candidate"], _WORK, {
        "step": step, "params": to_dict(params), "subject": subject, "dataset": str(dataset),
        "out": str(result.parent), "locks": locks, "more": more or {}}, step=step, candidate=common["candidate"],
        about=f"candidate {common['candidate']}")
    devices = resolve("cpu" if step == "export" else params.device, workers=1, threads=params.search.threads,
                      together=params.training.gpus if step == "training" else 1)
    with (Workers(devices[:1], attempts=params.search.attempts, timeout=params.search.timeout_seconds) as workers,
          Progress(f"{step} {common['candidate'][:6]}", 100, "%") as line):
        [(_, outcome)] = workers.run([task], lambda _, text, share: line.update(100 * share, text))
    if outcome.result is not None:
        return outcome.result
    if outcome.trace:
        write_text(result.with_name("failure.txt"), outcome.trace)
    reason = outcome.reason or ""
    if not reason.startswith(f"{step} of "):
        reason = f"{step}: {reason}"
    if outcome.lost and (advice := _advice(params, subject, dataset)):
        reason = f"{reason}; {advice}"
    return results.write(result, **common, status="infeasible", reason=reason, lost=outcome.lost)


def _advice(params: Params, subject: dict[str, Any] | str, dataset: Path) -> str:
    """The genome of a lost candidate and how to exclude it from the search space; empty where it cannot be read."""
    from parapet.models.weights import read_metadata  # imports torch, which is needed only after a failure

    try:
        genome = Genome.from_dict(subject["genome"] if isinstance(subject, dict)
                                  else read_metadata(Path(subject) / results.WEIGHTS)["genome"])
        space = SearchSpace(params.search.space, read_info(dataset)["image_shape"])
    except ParapetError:
        return ""
    return "; ".join(filter(None, [f"it is {genome}", lost.how_to_leave_out(genome, space)]))
