"""The gate and the promotion alone, as a Kubeflow pipeline: of a front that an earlier run assembled.

On a schedule it is a re-audit: the member that is chosen and the champion are attacked again, with a seed that each run
has for itself, and a member of the front takes the champion's place if it has become the better one. The task fails
where a number is no longer reached.
"""

import json
from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl import Artifact

import components
from parapet.cli.plugins import VARIABLE
from parapet.config import Params, to_dict
from parapet.errors import InputError
from pipelines.readable import refuse_secrets
from pipelines.resources import Resources

NAME = "promote"
_SECTIONS = ("data", "threat", "data_prep", "search", "export", "tracking", "full_evaluation", "promotion")


def build(params: Params, image: str, resources: Resources, assembled: str) -> Callable[..., Any]:
    """The pipeline for `params`; `assembled` is the address of the artifact that the component front left."""
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
        given = {"data_root": data_root, "seed": seed, "device": device, "data": data, "threat": threat,
                 "data_prep": data_prep, "search": search, "export": export, "tracking": tracking,
                 "full_evaluation": full_evaluation, "promotion": promotion, "mlflow_uri": mlflow_uri, "wish": wish,
                 "workspace": dsl.WORKSPACE_PATH_PLACEHOLDER, "occasion": dsl.PIPELINE_JOB_ID_PLACEHOLDER}

        def step(name: str, title: str, **arguments: Any) -> dsl.PipelineTask:
            component = getattr(components, name)
            wanted = component.component_spec.inputs
            own = {"device": resources.device(name)} if resources.device(name) else {}
            task = component(**{key: value for key, value in {**given, **own}.items() if key in wanted}, **arguments)
            resources.request(task, name, params.device)
            if params.plugins:
                task.set_env_variable(VARIABLE, ",".join(params.plugins))
            return task.set_container_image(image).set_display_name(title)

        front = dsl.importer(artifact_uri=assembled, artifact_class=Artifact, reimport=True).output
        with dsl.ExitHandler(step("outcome", "Say what it came to").set_caching_options(False)):
            dataset = step("data_prep", "Prepare the data").outputs["dataset"]
            # What it does depends on the registry, which no cache knows.
            step("promotion", "Promote", dataset=dataset, assembled=front).set_caching_options(False)

    return promote
