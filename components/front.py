"""front: collects all results of the front's members in one self-contained folder."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def front(seed: int, data: str, threat: str, search: str, front: str, tracking: str,
          workspace: str, dataset: Input[Dataset], archive: Input[Artifact], evaluation: Input[Artifact],
          assembled: Output[Artifact], metrics: Output[Metrics]) -> None:
    """Assemble front.json, metrics.json and the ONNX files.

    Args:
        seed: Seed of the search.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON.
        front: Section of params.yaml as JSON.
        tracking: Section of params.yaml as JSON.
        workspace: Folder where the numbers are stored for the end of the run; empty for none.
        dataset: Output of data_prep.
        archive: Output of the last task candidates or search.
        evaluation: Output of full_evaluation.
        assembled: front.json, metrics.json, onnx/, search/ and evaluation/; front.json names files in this folder.
        metrics: The numbers of metrics.json.
    """
    import json
    import os
    import shutil
    from pathlib import Path

    from parapet.cli import pod

    pod.begin("front")

    from parapet.config import Params, parse
    from parapet.steps import front as step
    from parapet.steps import outcome
    from parapet.store.search_folder import SearchFolder
    from parapet.tracking import tracked_task

    sections = {"data": data, "threat": threat, "search": search, "front": front, "tracking": tracking}
    params = parse(Params, {"seed": seed, **{name: json.loads(text) for name, text in sections.items()}})
    out = Path(assembled.path)
    shutil.copytree(archive.path, out / "search", dirs_exist_ok=True)
    shutil.copytree(evaluation.path, out / "evaluation", dirs_exist_ok=True)
    with tracked_task(os.environ, enabled=params.tracking.enabled, experiment=params.tracking.experiment) as task:
        runs = task.runs(SearchFolder(out / "search").search_id)
    numbers = step.run(params, Path(dataset.path), out / "search", out / "evaluation", out, runs=runs)
    for name, value in numbers.items():
        metrics.log_metric(name, value)
    shutil.copyfile(out / "metrics.json", metrics.path)
    if workspace:
        outcome.note_front(Path(workspace), numbers)
