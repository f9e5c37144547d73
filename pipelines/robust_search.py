"""The search as a Kubeflow pipeline: its generations unrolled, the candidates of each in a parallel loop."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import Artifact

import components
from parapet.config import Params, to_dict
from parapet.errors import InputError
from parapet.steps.candidates import refuse_rounds
from pipelines.resources import Resources

NAME = "robust-search"
# Kubeflow has no loop that runs until something holds, and Kubernetes limits the size of a workflow object.
MAXIMUM_GENERATIONS = 8


class Outputs(NamedTuple):
    """What the pipeline leaves: the folder of front.json, and the folder of the report."""

    assembled: Artifact
    reported: Artifact


def build(params: Params, image: str, resources: Resources | None = None) -> Callable[..., Any]:
    """The pipeline for `params`, whose sections become the defaults of its parameters.

    `image` runs every step. Without `resources` nothing is asked of the cluster (a local run). The number of
    generations is fixed here; InputError where it is more than MAXIMUM_GENERATIONS, or where the search has rounds
    beside its generations (rungs, second looks, other seeds).
    """
    generations = params.search.generations
    if generations > MAXIMUM_GENERATIONS:
        raise InputError(f"search.generations is {generations}, but a compiled pipeline holds at most "
                         f"{MAXIMUM_GENERATIONS} of them; lower it and raise search.population, or search longer "
                         "on one machine with `parapet run`.")
    refuse_rounds(params)
    section = {name: json.dumps(value) for name, value in to_dict(params).items()}
    # A small pod proposes and pods with a GPU train: what "auto" means must not depend on which of them asks.
    device = "cuda" if params.device == "auto" and resources and resources.gpus else params.device

    @dsl.pipeline(name=NAME, description="NSGA-II over architectures and adversarial training recipes.")
    def robust_search(
            data_root: str = params.data.root, locks: str = "", seed: int = params.seed, device: str = device,
            data: str = section["data"], threat: str = section["threat"], data_prep: str = section["data_prep"],
            search: str = section["search"], training: str = section["training"],
            attack_evaluation: str = section["attack_evaluation"], export: str = section["export"],
            full_evaluation: str = section["full_evaluation"], front: str = section["front"],
            report: str = section["report"], tracking: str = section["tracking"]) -> Outputs:
        given = {"data_root": data_root, "locks": locks, "seed": seed, "device": device, "data": data,
                 "threat": threat, "data_prep": data_prep, "search": search, "training": training,
                 "attack_evaluation": attack_evaluation, "export": export, "full_evaluation": full_evaluation,
                 "front": front, "report": report, "tracking": tracking}

        def step(name: str, title: str, **arguments: Any) -> dsl.PipelineTask:
            component = getattr(components, name)
            wanted = component.component_spec.inputs
            task = component(**{key: value for key, value in given.items() if key in wanted}, **arguments)
            if resources:
                resources.request(task, name, params.device)
            return task.set_container_image(image).set_display_name(title)

        dataset = step("data_prep", "Prepare the data").outputs["dataset"]
        asked = step("candidates", "Ask for generation 1", dataset=dataset, ask=True, generations=generations)
        for generation in range(1, generations + 1):
            # Inside the loop an output parameter of an earlier task would silently become the loop's item under
            # kfp.local, so that the body takes artifacts and parameters of the pipeline, and the item.
            with dsl.ParallelFor(asked.outputs["Output"], parallelism=params.search.workers) as proposal:
                trained = step("training", "Train", dataset=dataset, proposal=proposal).outputs["candidate"]
                attacks = step("attack_evaluation", "Attack", dataset=dataset, candidate=trained).outputs["attacks"]
                graph = step("export", "Export and time", dataset=dataset, candidate=trained).outputs["graph"]
            last = generation == generations
            asked = step("candidates", "End the search" if last else f"Ask for generation {generation + 1}",
                         dataset=dataset, ask=not last, generations=generations, previous=asked.outputs["archive"],
                         trained=dsl.Collected(trained), attacked=dsl.Collected(attacks),
                         exported=dsl.Collected(graph))
        archive = asked.outputs["archive"]
        evaluation = step("full_evaluation", "Evaluate the front", dataset=dataset,
                          archive=archive).outputs["evaluation"]
        assembled = step("front", "Assemble the front", dataset=dataset, archive=archive,
                         evaluation=evaluation).outputs["assembled"]
        reported = step("report", "Write the report", assembled=assembled).outputs["reported"]
        return Outputs(assembled, reported)

    return robust_search
