"""The arguments of a component that are sections of params.yaml, for a tiny run on the digits."""

import json

import components
from parapet.config import Params, parse, subset

SETTINGS = {"device": "cpu", "data_prep": {"limit_train": 40, "limit_test": 40},
            "search": {"population": 3, "generations": 2}}


def sections(step: str, **settings) -> dict:
    """The arguments of component `step` that are sections of params.yaml."""
    wanted = getattr(components, step).component_spec.inputs
    values = subset(parse(Params, {**SETTINGS, **settings}), [name for name in wanted if hasattr(Params(), name)])
    return {name: value if name in ("seed", "device") else json.dumps(value) for name, value in values.items()}
