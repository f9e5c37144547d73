"""promotion: chooses a member of the front, registers it, and makes it champion if it passes the gate."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promotion(seed: int, device: str, data: str, threat: str, search: str, export: str, tracking: str,
              full_evaluation: str, promotion: str, mlflow_uri: str, wish: str, dataset: Input[Dataset],
              assembled: Input[Artifact], workspace: str = "", occasion: str = "") -> str:
    """Promote a member of an assembled front; returns the version that is now champion. A refusal fails the task.

    Args:
        seed: Seed of the attacks' noise.
        device: auto, cpu or cuda: where the champion is attacked again.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON.
        export: Section of params.yaml as JSON.
        tracking: Section of params.yaml as JSON.
        full_evaluation: Section of params.yaml as JSON.
        promotion: Section of params.yaml as JSON.
        mlflow_uri: The MLflow server with the model registry.
        wish: knee, weights or constraints; empty for promotion.select.
        dataset: Output of data_prep.
        assembled: Output of front.
        workspace: Folder that the tasks of the run share, where the result is stored; empty for none.
        occasion: Text that determines the seed of the attack on the graph: the run's id, so that each run has its own.
    """
    import json
    import tempfile
    from pathlib import Path

    from parapet.cli import pod

    pod.begin("promotion")

    from parapet.config import Params, parse
    from parapet.devices import resolve
    from parapet.errors import PromotionRefused
    from parapet.promotion.reattack import in_words
    from parapet.steps import outcome
    from parapet.steps import promotion as step

    sections = {"data": data, "threat": threat, "search": search, "export": export, "tracking": tracking,
                "full_evaluation": full_evaluation, "promotion": promotion}
    params = parse(Params, {"seed": seed, "device": device,
                            **{name: json.loads(text) for name, text in sections.items()}})
    devices = resolve(device, workers=2, threads=params.search.threads)

    def tell(text: str) -> None:
        print(text, flush=True)
        if workspace:
            outcome.note_promotion(Path(workspace), text)

    try:
        with tempfile.TemporaryDirectory() as cache:
            found = step.run(params, Path(assembled.path), uri=mlflow_uri, wish=wish or None,
                             dataset=Path(dataset.path), cache=Path(cache), devices=devices, occasion=occasion,
                             tell=print)
    except PromotionRefused as error:
        tell(str(error))
        raise
    tell(f"{found['reason']} Version {found['version']} of {params.promotion.model_name} is champion. "
         + in_words(found["reattack"]))
    return found["version"]
