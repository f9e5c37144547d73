"""promotion: one member of the front chosen, registered, and made champion if the gate lets it through."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promotion(seed: int, device: str, data: str, threat: str, search: str, tracking: str, full_evaluation: str,
              promotion: str, mlflow_uri: str, wish: str, dataset: Input[Dataset], assembled: Input[Artifact]) -> str:
    """Promote a member of an assembled front; returns the version that is now champion. A refusal fails the task.

    Args:
        seed: Seed of the attacks' noise.
        device: auto, cpu or cuda: where the champion is attacked again.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON.
        tracking: Section of params.yaml as JSON.
        full_evaluation: Section of params.yaml as JSON.
        promotion: Section of params.yaml as JSON.
        mlflow_uri: The MLflow server with the model registry.
        wish: knee, weights or constraints; empty for what the section promotion says.
        dataset: What data_prep left.
        assembled: What front left.
    """
    import json
    import tempfile
    from pathlib import Path

    from parapet.config import Params, parse
    from parapet.devices import resolve
    from parapet.steps import promotion as step

    sections = {"data": data, "threat": threat, "search": search, "tracking": tracking,
                "full_evaluation": full_evaluation, "promotion": promotion}
    params = parse(Params, {"seed": seed, "device": device,
                            **{name: json.loads(text) for name, text in sections.items()}})
    devices = resolve(device, workers=2, threads=params.search.threads)
    with tempfile.TemporaryDirectory() as cache:
        outcome = step.run(params, Path(assembled.path), uri=mlflow_uri, wish=wish or None, dataset=Path(dataset.path),
                           cache=Path(cache), devices=devices, tell=print)
    print(outcome["reason"])
    return outcome["version"]
