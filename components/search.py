"""search: one task that runs several generations on its own devices."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def search(seed: int, device: str, data: str, threat: str, search: str, training: str, attack_evaluation: str,
           export: str, tracking: str, workspace: str, until: int, end: bool, dataset: Input[Dataset],
           archive: Output[Artifact], metrics: Output[Metrics], previous: Input[Artifact] = None) -> None:
    """Continue the search of the previous task, up to a number of generations in all.

    Args:
        seed: Seed of the search.
        device: auto, cpu or cuda.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON; its generations are those of the whole run.
        training: Section of params.yaml as JSON.
        attack_evaluation: Section of params.yaml as JSON.
        export: Section of params.yaml as JSON.
        tracking: Section of params.yaml as JSON.
        workspace: Folder that outlives this pod, for the candidate cache; empty for none.
        until: Generations in all when this task ends.
        end: Whether the front follows, trained from scratch where the search says so.
        dataset: Output of data_prep.
        archive: The journal, the front and the candidate cache, from which the next task or another run continues.
        metrics: Size of the front, hypervolume, candidates.
        previous: The archive of the previous task, or of an earlier run.
    """
    import json
    import os
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from parapet.cli import pod

    pod.begin("search")

    from parapet.config import Params, parse
    from parapet.devices import resolve
    from parapet.disk.files import write_json
    from parapet.steps import search as step
    from parapet.tracking import tracked_task

    sections = {"data": data, "threat": threat, "training": training, "attack_evaluation": attack_evaluation,
                "export": export, "tracking": tracking}
    params = parse(Params, {"seed": seed, "device": device, "search": {**json.loads(search), "generations": until},
                            **{name: json.loads(text) for name, text in sections.items()}})
    with (TemporaryDirectory() as folder, tracked_task(os.environ, enabled=params.tracking.enabled,
                                                       experiment=params.tracking.experiment) as task):
        numbers = step.go_on(params, Path(dataset.path), Path(archive.path), Path(workspace or folder) / "cache",
                             devices=resolve(device, workers=params.search.workers, threads=params.search.threads,
                                             together=params.training.gpus),
                             tracker=task.tracker, end=end,
                             tags={"git_revision": os.environ.get("PARAPET_REVISION", "unknown")},
                             previous=Path(previous.path) if previous else None)
    numbers = {name: value for name, value in numbers.items() if name != "search_id"}
    for name, value in numbers.items():
        metrics.log_metric(name, value)
    write_json(Path(metrics.path), numbers)
