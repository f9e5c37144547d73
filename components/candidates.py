"""candidates: the ask/tell step of NSGA-II between two generations."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def candidates(seed: int, device: str, data: str, threat: str, search: str, training: str, attack_evaluation: str,
               export: str, tracking: str, ask: bool, generations: int, batch: int, dataset: Input[Dataset],
               archive: Output[Artifact], previous: Input[Artifact] = None, trained: Input[list[Model]] = None,
               attacked: Input[list[Artifact]] = None, exported: Input[list[Model]] = None,
               measured: Input[list[Artifact]] = None) -> list[str]:
    """Tell the results of the last generation, if there was one, and ask for the next; JSON texts.

    Args:
        seed: Seed of the search.
        device: The device that candidates are trained on: auto (as this machine has), cpu or cuda.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON.
        training: Section of params.yaml as JSON.
        attack_evaluation: Section of params.yaml as JSON.
        export: Section of params.yaml as JSON.
        tracking: Section of params.yaml as JSON.
        ask: False after the last generation.
        generations: How many generations the pipeline was compiled for.
        batch: Proposals in each of the texts, as a list; 0 for one proposal per text.
        dataset: Output of data_prep.
        archive: State, journal and front of the search.
        previous: The archive of the previous generation.
        trained: Output of training for each candidate.
        attacked: Output of attack_evaluation for each candidate.
        exported: Output of export for each candidate.
        measured: Output of measure for each batch, instead of the three.
    """
    import json
    import os
    from pathlib import Path

    from parapet.cli import pod

    pod.begin("candidates")

    from parapet.config import Params, parse
    from parapet.devices import resolve
    from parapet.errors import InputError
    from parapet.steps import candidates as step
    from parapet.tracking import tracked_task

    sections = {"data": data, "threat": threat, "search": search, "training": training,
                "attack_evaluation": attack_evaluation, "export": export, "tracking": tracking}
    params = parse(Params, {"seed": seed, "device": device,
                            **{name: json.loads(text) for name, text in sections.items()}})
    if params.search.generations != generations:
        raise InputError(f"search.generations is {params.search.generations}, but this pipeline was compiled for "
                         f"{generations}; compile it again, or leave search.generations as it is.")
    folders = [Path(result.path) for result in (trained or []) + (attacked or []) + (exported or [])]
    folders += [folder for result in measured or [] for folder in sorted(Path(result.path).iterdir())]
    kind = resolve(device, workers=1, threads=1)[0] if device == "auto" else device
    with tracked_task(os.environ, enabled=params.tracking.enabled, experiment=params.tracking.experiment) as task:
        asked = step.run(params, Path(dataset.path), Path(archive.path), device=kind, results=folders, ask=ask,
                         previous=Path(previous.path) if previous else None, tracker=task.tracker,
                         tags={"git_revision": os.environ.get("PARAPET_REVISION", "unknown")}, known_runs=task.known)
    proposals = asked["proposals"]
    if not batch:
        return [json.dumps(proposal) for proposal in proposals]
    return [json.dumps(proposals[start:start + batch]) for start in range(0, len(proposals), batch)]
