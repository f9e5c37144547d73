"""training: trains one candidate adversarially; a failed training is an infeasible result with its reason."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from parapet.config import Params, parse
from parapet.cores import Cores, FreeCores
from parapet.data.dataset import Dataset
from parapet.errors import InputError, WorkError
from parapet.models import Network, check_fit, load, save
from parapet.models.cost import count_flops, count_parameters
from parapet.models.inheritance import inherit
from parapet.processes.launcher import launch
from parapet.processes.training_request import request
from parapet.store import results
from parapet.store.records import Proposal
from parapet.training import TrainingFailed, TrainingRun, train
from parapet.training.run import Turn
from parapet.training.team import ALONE, Team

SECTIONS = ("seed", "device", "data", "threat", "search", "training")
_FOLDER_LENGTH = 32


def run(params: Params, proposal: Proposal, dataset: Path, out: Path, *, device: str = "cpu",
        start: Path | None = None, checkpoints: Path | None = None, cores: Cores | FreeCores | None = None,
        progress: results.Report = results.ignore, team: Team | None = None) -> dict[str, Any]:
    """Train `proposal` on the prepared `dataset` into the folder `out`.

    `start` is the file of the weights from which a proposal with a parent starts. Writes model.safetensors and
    training.json, and returns its content; resumes from checkpoint.safetensors of an earlier attempt, which is in its
    own folder below `checkpoints` (default: in `out`). Damaged results in `out` are made again. With `training.gpus`
    above 1 that many processes train together, the first on `device` and the others on the GPUs after it; each of them
    calls this with its rank in `team`, and the first one writes; the others return {}. Raises WorkError where the
    parent's weights are missing or damaged.
    """
    kept = out if checkpoints is None else checkpoints / proposal.training_key[:_FOLDER_LENGTH]
    if (result := results.done(out / results.TRAINING, proposal.training_key)) is not None:
        (kept / results.CHECKPOINT).unlink(missing_ok=True)  # left by a process that was killed at the very end
        return result
    out.mkdir(parents=True, exist_ok=True)
    if params.training.gpus > 1 and team is None:
        launch(request(params, proposal.to_json(), dataset, out, device=device, start=start, checkpoints=checkpoints,
                       locks=cores.folder if cores else None), params.training.gpus, progress)
        return results.trained(out)
    team = team or ALONE
    torch.set_num_threads(params.search.threads)
    genome, fidelity, parent, data = proposal.genome, proposal.fidelity, proposal.parent, Dataset.open(dataset)
    results.check_data(data.fingerprint, proposal.fingerprint, dataset)
    common = {"candidate": proposal.id, "key": proposal.training_key, "fingerprint": data.fingerprint}
    started = time.time()

    def write(**values: Any) -> dict[str, Any]:
        return results.write(out / results.TRAINING, **common, **values) if team.is_main else {}

    try:
        check_fit(genome, data.image_shape, len(data.classes))
    except InputError as error:
        # The search space may contain genomes that do not fit the images: the search continues without them.
        return write(status="infeasible", reason=str(error), started=started)

    initialise = None
    if parent is not None:
        if start is None or results.done(start.parent / results.TRAINING, parent.training_key) is None:
            raise WorkError(f"the weights that candidate {proposal.id} begins with, those of "
                            f"{parent.training_key[:12]}, are not in the candidate cache, or damaged there; run the "
                            "search again, which trains them again.")
        ancestor = load(start)

        def initialise(network: Network) -> None:
            inherit(network, ancestor)

    config = fidelity.config(params.training, behind=parent.epochs if parent else 0, started=parent is not None)
    kept.mkdir(parents=True, exist_ok=True)
    turn = (cores or FreeCores()).shared

    def auxiliary_turn(name: str) -> Turn:
        progress(f"the {name} first", 0.0)
        return turn

    def tell(epoch: int, epochs: int, metrics: dict[str, Any]) -> None:
        progress(f"epoch {epoch}/{epochs}", epoch / epochs)

    try:
        trained = train(TrainingRun.of(
            fidelity.recipe(genome), data, images=fidelity.images(data.images["train"], config.batch_size),
            config=config, threat=params.threat, seed=proposal.seed + (parent is not None) * fidelity.epochs,
            device=device, checkpoint=kept / results.CHECKPOINT, progress=tell, turn=turn,
            auxiliary_turn=auxiliary_turn, initialise=initialise, team=team))
    except TrainingFailed as error:
        return write(status="infeasible", reason=str(error), started=started)
    if not team.is_main:
        return {}
    network = trained.network.cpu()
    network.genome = genome  # the one of the candidate, not the cheaper recipe of its rung
    save(network, out / results.WEIGHTS)
    result = write(
        beside=[results.WEIGHTS], started=started, training_seconds=trained.seconds,
        training_flops=trained.training_flops, best_epoch=trained.best_epoch,
        flops=count_flops(network, network.image_shape), params=count_parameters(network), curves=trained.curves)
    (kept / results.CHECKPOINT).unlink(missing_ok=True)
    return result


def take_part(*, params: dict[str, Any], proposal: dict[str, Any], dataset: str, out: str, start: str | None,
              checkpoints: str | None, locks: str | None, device: str, team: Team, progress: results.Report) -> None:
    """Call `run` in one of several processes that train a candidate together; the arguments are plain values.

    Raises InputError where the number of processes is not `training.gpus`.
    """
    settings = parse(Params, params)
    if team.size != settings.training.gpus:
        raise InputError(f"training.gpus is {settings.training.gpus}, and {team.size} processes were started to train "
                         "together; the cluster's file and params.yaml have to be compiled together.")
    # One lock is enough: before every batch the other processes wait for the main one.
    cores = Cores(Path(locks)) if locks and team.is_main else FreeCores()
    run(settings, Proposal.from_json(proposal), Path(dataset), Path(out), device=device,
        start=Path(start) if start else None, checkpoints=Path(checkpoints) if checkpoints else None, cores=cores,
        team=team, progress=progress)
