"""The search as a Kubeflow pipeline: generations are unrolled, and each one is a parallel loop over candidates."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kfp import dsl
from kfp.dsl import Artifact

import components
from parapet.config import Params, to_dict
from parapet.errors import InputError
from pipelines.layout import Layout
from pipelines.readable import refuse_secrets
from pipelines.resources import Resources
from pipelines.tasks import Tasks

NAME = "robust-search"


def build(params: Params, image: str, resources: Resources | None = None,
          layout: Layout | None = None) -> Callable[..., Any]:
    """The pipeline function for `params`, whose sections become the default values of its parameters.

    Every step runs in `image`. Without `resources` nothing is requested from a cluster (a local run). `layout` divides
    the search into tasks; the default is that of `resources`. The number of generations is fixed when the pipeline is
    built. Raises InputError where a workflow cannot contain so many, and where a value contains a secret.
    """
    layout = layout or (resources.layout if resources else Layout())
    resources = resources and replace(resources, layout=layout)
    refuse_secrets(params, resources, image)
    stages = layout.stages(params)
    section = {name: json.dumps(value) for name, value in to_dict(params).items()}
    # Proposals are made in a pod without a GPU, and training runs in pods with one: "auto" must mean the same in both.
    device = "cuda" if params.device == "auto" and resources and resources.gpus else params.device
    uri = (resources and resources.mlflow_uri) or ""
    job = resources.train_job(params) if resources else ""
    if layout.promote and not uri:
        raise InputError("layout.promote is true and mlflow_uri is not given, and a promotion needs a model registry; "
                         "give the address of the MLflow server in the cluster file.")

    @dsl.pipeline(name=NAME, description="NSGA-II over architectures and adversarial training recipes.",
                  pipeline_config=(resources or Resources()).workspace_config())
    def robust_search(
            data_root: str = params.data.root, locks: str = "", seed: int = params.seed, device: str = device,
            data: str = section["data"], threat: str = section["threat"], data_prep: str = section["data_prep"],
            search: str = section["search"], training: str = section["training"],
            attack_evaluation: str = section["attack_evaluation"], export: str = section["export"],
            full_evaluation: str = section["full_evaluation"], front: str = section["front"],
            report: str = section["report"], tracking: str = section["tracking"],
            promotion: str = section["promotion"], train_job: str = job, mlflow_uri: str = uri,
            wish: str = "") -> None:
        step = Tasks(params, image, resources, {
            "data_root": data_root, "locks": locks, "seed": seed, "device": device, "data": data, "threat": threat,
            "data_prep": data_prep, "search": search, "training": training, "attack_evaluation": attack_evaluation,
            "export": export, "full_evaluation": full_evaluation, "front": front, "report": report,
            "tracking": tracking, "promotion": promotion, "train_job": train_job, "mlflow_uri": mlflow_uri,
            "wish": wish, "workspace": dsl.WORKSPACE_PATH_PLACEHOLDER, "occasion": dsl.PIPELINE_JOB_ID_PLACEHOLDER})

        def searched(dataset: Artifact) -> Artifact:
            """The archive of a search in which each task runs one or more whole generations."""
            archive = _earlier(layout)
            for until in stages:
                more = {"previous": archive} if archive is not None else {}
                archive = step("search", f"Search up to generation {until}", dataset=dataset, until=until,
                               end=until == stages[-1], **more).outputs["archive"]
            return archive

        def unrolled(dataset: Artifact) -> Artifact:
            """The archive of a search in which each candidate or batch has its own tasks."""
            begun = _earlier(layout)
            turn = {"dataset": dataset, "generations": len(stages), "batch": layout.batch}
            asked = step("candidates", "Ask for generation 1", ask=True, **turn,
                         **({"previous": begun} if begun is not None else {}))
            for generation in stages:
                results = candidate_loop(asked.outputs["Output"], dataset)
                last = generation == stages[-1]
                asked = step("candidates", "End the search" if last else f"Ask for generation {generation + 1}",
                             ask=not last, previous=asked.outputs["archive"], **turn, **results)
            return asked.outputs["archive"]

        def candidate_loop(texts: Any, dataset: Artifact) -> dict[str, Any]:
            """Measure every proposal of a generation; returns the arguments with the results for `candidates`."""
            # kfp.local silently replaces an output parameter of an earlier task by the loop's item, so the body uses
            # only artifacts, parameters of the pipeline and the item.
            with dsl.ParallelFor(texts, parallelism=params.search.workers) as item:
                if layout.batch:
                    done = {"measured": step("measure", "Train, attack, export", dataset=dataset,
                                             proposals=item).outputs["measured"]}
                else:
                    trained = step("training", "Train", dataset=dataset, proposal=item,
                                   waits=params.search.attempts if job else 0).outputs["candidate"]
                    attacks = step("attack_evaluation", "Attack", dataset=dataset, candidate=trained).outputs["attacks"]
                    graph = step("export", "Export and time", dataset=dataset, candidate=trained, attacks=attacks)
                    done = {"trained": trained, "attacked": attacks, "exported": graph.outputs["graph"]}
            return {name: dsl.Collected(output) for name, output in done.items()}

        with dsl.ExitHandler(step("outcome", "Say what it came to")):
            dataset = step("data_prep", "Prepare the data").outputs["dataset"]
            archive = (unrolled if layout.generations_per_task is None else searched)(dataset)
            evaluation = step("full_evaluation", "Evaluate the front", dataset=dataset,
                              archive=archive).outputs["evaluation"]
            assembled = step("front", "Assemble the front", dataset=dataset, archive=archive,
                             evaluation=evaluation).outputs["assembled"]
            step("report", "Write the report", assembled=assembled)
            if layout.promote:
                step("promotion", "Promote", assembled=assembled, **_also("promotion", dataset=dataset))

    return robust_search


def _earlier(layout: Layout) -> Artifact | None:
    """The archive of an earlier run to continue; None for a new search."""
    if layout.continue_from is None:
        return None
    return dsl.importer(artifact_uri=layout.continue_from, artifact_class=Artifact, reimport=False).output


def _also(name: str, **arguments: Any) -> dict[str, Any]:
    """The `arguments` that are inputs of the component `name`."""
    return {key: value for key, value in arguments.items() if key in getattr(components, name).component_spec.inputs}
