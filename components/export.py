"""export: exports one candidate to ONNX, compares the graph with torch, and measures its latency."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export(device: str, data: str, threat: str, search: str, export: str, locks: str, dataset: Input[Dataset],
           candidate: Input[Model], attacks: Input[Artifact], graph: Output[Model]) -> None:
    """Export one trained candidate in a child process and time the graph.

    Args:
        device: auto, cpu or cuda; the graph is timed on the CPU all the same.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        search: Section of params.yaml as JSON.
        export: Section of params.yaml as JSON.
        locks: Folder of the cores' locks where tasks share a machine, else empty.
        dataset: Output of data_prep.
        candidate: Output of training.
        attacks: Output of attack_evaluation, on whose images the graph has to answer as the network did.
        graph: model.onnx and export.json.
    """
    import json
    import os
    from pathlib import Path

    from parapet.cli import pod

    pod.begin("export")

    from parapet.config import Params, parse
    from parapet.steps import supervised

    sections = {"data": data, "threat": threat, "search": search, "export": export}
    params = parse(Params, {"device": device, **{name: json.loads(text) for name, text in sections.items()}})
    result = supervised.export(params, Path(candidate.path), Path(dataset.path), Path(graph.path), locks=locks,
                               attacks=Path(attacks.path), revision=os.environ.get("PARAPET_REVISION", "unknown"))
    graph.metadata.update({name: result[name] for name in ("id", "status")})
