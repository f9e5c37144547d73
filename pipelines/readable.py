"""Refuses secrets in a compiled pipeline, because everyone with access to a run can read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from parapet.config import Params, to_dict
from parapet.errors import InputError
from parapet.redaction import redacted
from pipelines.resources import Resources

_ADVICE = ("everybody who may see a run reads the compiled pipeline; leave it out, and let the pods have it from a "
           "Kubernetes secret (in the cluster file, for example secrets: [{name: mlflow-client, variables: "
           "{MLFLOW_TRACKING_USERNAME: username, MLFLOW_TRACKING_PASSWORD: password}}])")


def refuse_secrets(params: Params, resources: Resources | None, image: str, assembled: str | None = None) -> None:
    """Raise InputError, with the name of the value, where a compiled value contains a password, a token or a key."""
    given = {"params.yaml": to_dict(params), "the cluster file": to_dict(resources) if resources else {},
             "the arguments": {"--image": image, "--assembled": assembled}}
    for place, values in given.items():
        for name, text in _texts(values):
            if redacted(text) != text:
                raise InputError(f"{name} of {place} holds a password, a token or a key, and {_ADVICE}.")


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, name)
    elif isinstance(value, str):
        yield name, value
