"""What kfp's compiler and client do not check of a compiled pipeline: that its graph holds together."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

Spec = dict[str, Any]


def problems(spec: Spec) -> list[str]:
    """Everything that is wrong with the graph of a compiled pipeline, a sentence each; empty where nothing is."""
    components, executors = spec["components"], spec["deploymentSpec"]["executors"]
    found = []
    for name, component in components.items():
        if "dag" not in component and component.get("executorLabel") not in executors:
            found.append(f"{name} has no executor {component.get('executorLabel')}")
    used = {component.get("executorLabel") for component in components.values()}
    found += [f"executor {name} belongs to no component" for name in executors if name not in used]
    referred = {"root"}
    for place, owner in [("root", spec["root"]), *components.items()]:
        if "dag" in owner:
            found += _dag_problems(place, owner, components)
            referred |= {task["componentRef"]["name"] for task in owner["dag"]["tasks"].values()}
    return found + [f"{name} is used by no task" for name in components if name not in referred]


def _dag_problems(place: str, owner: Spec, components: Spec) -> Iterator[str]:
    tasks = owner["dag"]["tasks"]
    whole = {name: task for name, task in tasks.items() if task["componentRef"]["name"] in components}
    for name, task in tasks.items():
        where = f"{place}/{name}"
        if name not in whole:
            yield f"{where} refers to a component {task['componentRef']['name']} that is not there"
        for other in task.get("dependentTasks", []):
            if other not in tasks:
                yield f"{where} waits for a task {other} that is not there"
    try:
        TopologicalSorter({name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}).prepare()
    except CycleError as error:
        yield f"{place} goes round in a circle: {' -> '.join(error.args[1])}"
    for name, task in whole.items():
        if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED" \
                and not task.get("dependentTasks"):
            yield f"{place}/{name} is to run whatever comes before it, and waits for nothing"
        component = components[task["componentRef"]["name"]]
        yield from _input_problems(f"{place}/{name}", task, component, whole, owner, components)
    for key, selected in owner["dag"].get("outputs", {}).get("artifacts", {}).items():
        for selector in selected["artifactSelectors"]:
            made = _made(selector["producerSubtask"], selector["outputArtifactKey"], "artifacts", whole, components)
            if made is None:
                yield f"{place} gives out {key}, which no task makes"


def _input_problems(where: str, task: Spec, component: Spec, tasks: Spec, owner: Spec,
                    components: Spec) -> Iterator[str]:
    iterator = task.get("parameterIterator", {})
    items, item = iterator.get("items", {}).get("inputParameter"), iterator.get("itemInput")
    for kind in ("artifacts", "parameters"):
        wanted = component.get("inputDefinitions", {}).get(kind, {})
        given = task.get("inputs", {}).get(kind, {})
        missing = [key for key, definition in wanted.items()
                   if not definition.get("isOptional") and key not in given and key != item]
        yield from (f"{where} is not given its {key}" for key in missing)
        for key, source in given.items():
            if key not in wanted and key != items:
                yield f"{where} is given {key}, which it does not take"
            made, from_task = _source(source, kind, tasks, owner, components)
            if made is None:
                yield f"{where} is given {key} from where nothing makes it: {source}"
            elif kind == "artifacts" and key in wanted and _type(made) != _type(wanted[key]):
                yield f"{where} takes {key} as {_type(wanted[key])} and is given {_type(made)}"
            if from_task is not None and from_task not in task.get("dependentTasks", []):
                yield f"{where} does not wait for {from_task}, which makes its {key}"
            if iterator and kind == "parameters" and from_task is not None and key != items:
                yield f"{where} loops, and kfp.local would put the item in place of {key} of {from_task}"


def _source(source: Spec, kind: str, tasks: Spec, owner: Spec, components: Spec) -> tuple[Spec | None, str | None]:
    """The definition of what is given, None where there is none, and the task that makes it, if a task does."""
    if (final := source.get("taskFinalStatus")) is not None:
        return ({} if final["producerTask"] in tasks else None), final["producerTask"]
    singular = kind.removesuffix("s").capitalize()
    if (output := source.get(f"taskOutput{singular}")) is not None:
        producer = output["producerTask"]
        return _made(producer, output[f"output{singular}Key"], kind, tasks, components), producer
    if (outer := source.get(f"componentInput{singular}")) is not None:
        return owner.get("inputDefinitions", {}).get(kind, {}).get(outer), None
    return ({} if "runtimeValue" in source else None), None


def _made(task: str, key: str, kind: str, tasks: Spec, components: Spec) -> Spec | None:
    if task not in tasks:
        return None
    component = components[tasks[task]["componentRef"]["name"]]
    return component.get("outputDefinitions", {}).get(kind, {}).get(key)


def _type(definition: Spec) -> tuple[str, bool]:
    return definition["artifactType"]["schemaTitle"], definition.get("isArtifactList", False)
