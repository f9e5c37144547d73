"""full_evaluation: the full suite and audit of the front on the test split, replayed on the ONNX graphs."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def full_evaluation(seed: int, device: str, data: str, threat: str, search: str, export: str, full_evaluation: str,
                    tracking: str, dataset: Input[Dataset], archive: Input[Artifact],
                    evaluation: Output[Artifact]) -> None:
    """Evaluate every member of the front and the undefended network.

    Args:
        seed: Seed of the attacks' noise.
        device: auto, cpu or cuda.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON.
        export: Section of params.yaml as JSON; also for timing the INT8 variants.
        full_evaluation: Section of params.yaml as JSON.
        tracking: Section of params.yaml as JSON.
        dataset: Output of data_prep.
        archive: Output of the last task candidates or search.
        evaluation: A JSON file and stored adversarial images for each member.
    """
    import json
    import os
    from pathlib import Path

    from parapet.cli import pod

    pod.begin("full_evaluation")

    from parapet.config import Params, parse
    from parapet.devices import resolve
    from parapet.steps import full_evaluation as step
    from parapet.tracking import tracked_task

    sections = {"data": data, "threat": threat, "search": search, "export": export, "full_evaluation": full_evaluation,
                "tracking": tracking}
    params = parse(Params, {"seed": seed, "device": device,
                            **{name: json.loads(text) for name, text in sections.items()}})
    devices = resolve(device, workers=params.search.workers, threads=params.search.threads)
    with tracked_task(os.environ, enabled=params.tracking.enabled, experiment=params.tracking.experiment) as task:
        step.run(params, Path(dataset.path), Path(archive.path), Path(evaluation.path), devices=devices,
                 tracker=task.tracker)
