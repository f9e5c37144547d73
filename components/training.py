"""training: trains one candidate adversarially; a candidate that fails gives a result with the reason."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def training(seed: int, device: str, data: str, threat: str, search: str, training: str, locks: str, workspace: str,
             proposal: str, dataset: Input[Dataset], candidate: Output[Model], train_job: str = "") -> None:
    """Train one proposal in a child process, or by a TrainJob of Kubeflow Trainer.

    Args:
        seed: Seed of the search; the candidate's own is in the proposal.
        device: auto, cpu or cuda.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON.
        training: Section of params.yaml as JSON.
        locks: Folder of the cores' locks where tasks share a machine, else empty.
        workspace: Folder that outlives this pod, for its checkpoint; empty for none.
        proposal: A text that candidates returned, JSON.
        dataset: Output of data_prep.
        candidate: model.safetensors and training.json.
        train_job: Specification of a TrainJob as JSON; empty to train here.
    """
    import json
    from pathlib import Path

    from parapet.cli import pod

    pod.begin("training")

    from parapet.config import Params, parse
    from parapet.processes import train_job as jobs
    from parapet.steps import supervised

    sections = {"data": data, "threat": threat, "search": search, "training": training}
    params = parse(Params, {"seed": seed, "device": device,
                            **{name: json.loads(text) for name, text in sections.items()}})
    where = json.loads(proposal), Path(dataset.path), Path(candidate.path)
    if train_job:
        result = jobs.run(params, *where, shared=Path(workspace), spec=jobs.TrainJobSpec(**json.loads(train_job)))
    else:
        result = supervised.training(params, *where, locks=locks,
                                     checkpoints=Path(workspace) / "checkpoints" if workspace else None)
    candidate.metadata.update({name: result[name] for name in ("id", "status")})
