"""measure: training, attack_evaluation and export of several candidates in one pod."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def measure(seed: int, device: str, data: str, threat: str, search: str, training: str, attack_evaluation: str,
            export: str, workspace: str, proposals: str, dataset: Input[Dataset], measured: Output[Artifact]) -> None:
    """Train, attack, export and time a batch of proposals, each in a child process.

    Args:
        seed: Seed of the search; the candidates' own are in the proposals.
        device: auto, cpu or cuda.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON.
        training: Section of params.yaml as JSON.
        attack_evaluation: Section of params.yaml as JSON.
        export: Section of params.yaml as JSON.
        workspace: Folder that outlives this pod, for results so far; empty for none.
        proposals: A text that candidates returned, a JSON list.
        dataset: Output of data_prep.
        measured: A folder per candidate, with the outputs of the three steps.
    """
    import json
    import os
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from parapet.cli import pod

    pod.begin("measure")

    from parapet.config import Params, parse
    from parapet.steps import supervised

    sections = {"data": data, "threat": threat, "search": search, "training": training,
                "attack_evaluation": attack_evaluation, "export": export}
    params = parse(Params, {"seed": seed, "device": device,
                            **{name: json.loads(text) for name, text in sections.items()}})
    with TemporaryDirectory() as folder:
        cache = Path(workspace or folder) / "cache"
        failed = supervised.measure(params, json.loads(proposals), Path(dataset.path), Path(measured.path), cache,
                                    revision=os.environ.get("PARAPET_REVISION", "unknown"))
    measured.metadata["infeasible"] = failed
