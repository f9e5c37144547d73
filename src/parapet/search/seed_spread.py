"""How much of a candidate's accuracy is the luck of its seed: the same training, several times."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from parapet.store.records import Record


def spread(record: Record, records: Sequence[Record]) -> dict[str, Any] | None:
    """{n, clean_accuracy, robust_accuracy}, each accuracy {mean, std} over the n seeds of `record`'s training.

    `records` are those of `records.latest`, and std is the sample standard deviation. On the validation split. None
    where there is one seed alone.
    """
    same = [other for other in records if other.fidelity.full and other.parent is None
            and other.point == record.point and other.validation is not None]
    if len(same) < 2:
        return None
    columns = {name: [getattr(other.validation, name) for other in same]
               for name in ("clean_accuracy", "robust_accuracy")}
    return {"n": len(same), **{name: {"mean": statistics.fmean(values), "std": statistics.stdev(values)}
                               for name, values in columns.items()}}
