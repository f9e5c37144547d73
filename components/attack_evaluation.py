"""attack_evaluation: the attack suite of the search on the validation split, and the cheap part of the audit."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def attack_evaluation(seed: int, device: str, data: str, threat: str, search: str, attack_evaluation: str, locks: str,
                      dataset: Input[Dataset], candidate: Input[Model], attacks: Output[Artifact],
                      metrics: Output[Metrics]) -> None:
    """Attack one trained candidate in a child process.

    Args:
        seed: Seed of the attacks' noise.
        device: auto, cpu or cuda.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON.
        attack_evaluation: Section of params.yaml as JSON.
        locks: Folder of the cores' locks where tasks share a machine, else empty.
        dataset: Output of data_prep.
        candidate: Output of training.
        attacks: attack_evaluation.json.
        metrics: Clean and robust accuracy on the validation split; empty for an infeasible candidate.
    """
    import json
    from pathlib import Path

    from parapet.cli import pod

    pod.begin("attack_evaluation")

    from parapet.config import Params, parse
    from parapet.disk.files import write_json
    from parapet.steps import supervised

    sections = {"data": data, "threat": threat, "search": search, "attack_evaluation": attack_evaluation}
    params = parse(Params, {"seed": seed, "device": device,
                            **{name: json.loads(text) for name, text in sections.items()}})
    result = supervised.attack_evaluation(params, Path(candidate.path), Path(dataset.path), Path(attacks.path),
                                          locks=locks)
    measured = result.get("evaluation", {})
    numbers = {name: measured[name] for name in ("clean_accuracy", "robust_accuracy") if name in measured}
    for name, value in numbers.items():
        metrics.log_metric(name, value)
    write_json(Path(metrics.path), numbers)
