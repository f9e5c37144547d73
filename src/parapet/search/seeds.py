"""How much of a candidate's accuracy is the luck of its seed: the same training, several times."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from parapet.genome import point


def spread(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """{n, clean_accuracy, robust_accuracy}, each accuracy {mean, std} over the n seeds of `record`'s training.

    `records` are those of `archive.latest`, and std is the sample standard deviation. On the validation split. None
    where there is one seed alone.
    """
    same = [other for other in records if other["fidelity"]["full"] and other["parent"] is None
            and point(other["genome"]) == point(record["genome"]) and other["validation"] is not None]
    if len(same) < 2:
        return None
    columns = {name: [other["validation"][name] for other in same] for name in ("clean_accuracy", "robust_accuracy")}
    return {"n": len(same), **{name: {"mean": statistics.fmean(values), "std": statistics.stdev(values)}
                               for name, values in columns.items()}}
