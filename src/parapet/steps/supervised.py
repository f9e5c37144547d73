"""The steps of one candidate, each in a child process that may die: whatever happens, there is a result.

A pod calls these, so that a crash in it is an infeasible candidate with its reason and not a hole in the loop.
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
    """`training.run` of `proposal` in a child process.

    `locks` is the folder of the cores' locks, if any; what is kept in `checkpoints` outlives this process too.
    """
    return _supervise("training", params, proposal, dataset, out / results.TRAINING, locks,
                      {"checkpoints": str(checkpoints) if checkpoints else None}, candidate=proposal["id"],
                      key=proposal["training_key"])


def attack_evaluation(params: Params, candidate: Path, dataset: Path, out: Path, *,
                      locks: str = "") -> dict[str, Any]:
    """`attack_evaluation.run` of folder `candidate` in a child process."""
    trained = results.trained(candidate)
    return _supervise("attack_evaluation", params, str(candidate), dataset, out / results.ATTACK_EVALUATION, locks,
                      candidate=trained["id"], key=evaluation_key(trained["key"], params, "attack_evaluation"))


def export(params: Params, candidate: Path, dataset: Path, out: Path, *, locks: str = "", attacks: Path | None = None,
           revision: str = "unknown") -> dict[str, Any]:
    """`export.run` of folder `candidate` in a child process; `attacks` is what `attack_evaluation` left."""
    trained = results.trained(candidate)
    return _supervise("export", params, str(candidate), dataset, out / results.EXPORT, locks,
                      {"attacks": str(attacks) if attacks else None, "revision": revision}, candidate=trained["id"],
                      key=export_key(trained["key"], params))


def measure(params: Params, proposals: Sequence[dict[str, Any]], dataset: Path, out: Path, cache: Path, *,
            revision: str = "unknown") -> list[str]:
    """Training, attack evaluation and export of each of `proposals` in child processes, as many as there are devices.

    What is done lies in `cache`, so that the same work begun again goes on. Leaves out/<id>/ with the files of each
    candidate, for one that failed training.json with the reason. Returns the reasons of those.
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
    """The child's side: `run` of the step called `step`, with JSON for arguments.

    `subject` is what the step works on: a proposal, or the folder that training left. `more` are arguments of that step
    alone.
    """
    run = importlib.import_module(f"parapet.steps.{step}").run
    cores = Cores(Path(locks)) if locks else FreeCores()
    # The graph that ships is timed on the CPU, whatever trained it.
    where: dict[str, Any] = {} if step == "export" else {"device": device}
    where |= {name: value if name == "revision" else Path(value) for name, value in more.items() if value is not None}
    worked_on = Path(subject) if isinstance(subject, str) else Proposal.from_json(subject)
    with log.span(step):
        result: dict[str, Any] = run(parse(Params, params), worked_on, Path(dataset), Path(out), cores=cores,
                                     progress=progress, **where)
        return result


def _supervise(step: str, params: Params, subject: dict[str, Any] | str, dataset: Path, result: Path, locks: str,
               more: dict[str, str | None] | None = None, **common: str) -> dict[str, Any]:
    """The step's result; where the child leaves none, an infeasible one, written to `result`."""
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
    """Which candidate it is and how to leave it out, as far as the files that tell of it are there."""
    from parapet.models.weights import read_metadata  # torch is for a failure alone

    try:
        genome = Genome.from_dict(subject["genome"] if isinstance(subject, dict)
                                  else read_metadata(Path(subject) / results.WEIGHTS)["genome"])
        space = SearchSpace(params.search.space, read_info(dataset)["image_shape"])
    except ParapetError:
        return ""
    return "; ".join(filter(None, [f"it is {genome}", lost.how_to_leave_out(genome, space)]))
