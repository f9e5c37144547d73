"""promotion: one member of the front chosen, registered, and made champion if the gate lets it through."""

from kfp import dsl
from kfp.dsl import Artifact, Input

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promotion(threat: str, tracking: str, promotion: str, mlflow_uri: str, wish: str,
              assembled: Input[Artifact]) -> str:
    """Promote a member of an assembled front; returns the version that is now champion. A refusal fails the task.

    Args:
        threat: Section of params.yaml as JSON.
        tracking: Section of params.yaml as JSON.
        promotion: Section of params.yaml as JSON.
        mlflow_uri: The MLflow server with the model registry.
        wish: knee, weights or constraints; empty for what the section promotion says.
        assembled: What front left.
    """
    import json
    from pathlib import Path

    from parapet.config import Params, parse
    from parapet.steps import promotion as step

    params = parse(Params, {"threat": json.loads(threat), "tracking": json.loads(tracking),
                            "promotion": json.loads(promotion)})
    return str(step.run(params, Path(assembled.path), uri=mlflow_uri, wish=wish or None)["version"])
