"""A Kubeflow pipeline that only runs the promotion gate, for a front that an earlier run assembled.

As a recurring run it repeats the audit: the selected member and the champion are attacked again, with another seed in
each run, and the member replaces the champion if it is now better. The task fails where a recorded accuracy is no
longer reached.
"""

import json
from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl import Artifact

from parapet.config import Params, to_dict
from parapet.errors import InputError
from pipelines.readable import refuse_secrets
from pipelines.resources import Resources
from pipelines.tasks import Tasks

NAME = "promote"
_SECTIONS = ("data", "threat", "data_prep", "search", "export", "tracking", "full_evaluation", "promotion")


def build(params: Params, image: str, resources: Resources, assembled: str) -> Callable[..., Any]:
    """The pipeline function for `params`; `assembled` is the address of the output of the component front.

    Raises InputError where `resources` has no MLflow server, and where a value contains a secret.
    """
    refuse_secrets(params, resources, image, assembled)
    section = {name: json.dumps(value) for name, value in to_dict(params).items() if name in _SECTIONS}
    uri = resources.mlflow_uri or ""
    if not uri:
        raise InputError("mlflow_uri is not given, and a promotion needs a model registry; give the address of the "
                         "MLflow server in the cluster file.")

    @dsl.pipeline(name=NAME, description="The gate and the promotion alone.",
                  pipeline_config=resources.workspace_config())
    def promote(assembled: str = assembled, data_root: str = params.data.root, seed: int = params.seed,
                device: str = params.device, data: str = section["data"], threat: str = section["threat"],
                data_prep: str = section["data_prep"], search: str = section["search"],
                export: str = section["export"], tracking: str = section["tracking"],
                full_evaluation: str = section["full_evaluation"], promotion: str = section["promotion"],
                mlflow_uri: str = uri, wish: str = "") -> None:
        step = Tasks(params, image, resources, {
            "data_root": data_root, "seed": seed, "device": device, "data": data, "threat": threat,
            "data_prep": data_prep, "search": search, "export": export, "tracking": tracking,
            "full_evaluation": full_evaluation, "promotion": promotion, "mlflow_uri": mlflow_uri, "wish": wish,
            "workspace": dsl.WORKSPACE_PATH_PLACEHOLDER, "occasion": dsl.PIPELINE_JOB_ID_PLACEHOLDER})
        front = dsl.importer(artifact_uri=assembled, artifact_class=Artifact, reimport=True).output
        with dsl.ExitHandler(step("outcome", "Say what it came to")):
            dataset = step("data_prep", "Prepare the data").outputs["dataset"]
            step("promotion", "Promote", dataset=dataset, assembled=front)

    return promote
