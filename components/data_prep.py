"""data_prep: verifies the data set, splits it, and records its fingerprint."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def data_prep(seed: int, data: str, threat: str, data_prep: str, data_root: str, dataset: Output[Dataset]) -> None:
    """Prepare the data set from the first of the folders in `data_root`, separated by colons, that holds it.

    Args:
        seed: Seed of the splits.
        data: Section of params.yaml as JSON.
        threat: Section of params.yaml as JSON.
        data_prep: Section of params.yaml as JSON.
        data_root: Folders of data sets, separated by colons.
        dataset: The prepared data set; its metadata hold images per split and fingerprint.
    """
    import json
    from pathlib import Path

    from parapet.cli import pod

    pod.begin("data_prep")

    from parapet.config import Params, parse
    from parapet.steps import data_prep as step

    sections = {"data": json.loads(data), "threat": json.loads(threat), "data_prep": json.loads(data_prep)}
    params = parse(Params, {"seed": seed, **sections})
    dataset.metadata.update(step.run(params, [Path(root) for root in data_root.split(":")], Path(dataset.path)))
