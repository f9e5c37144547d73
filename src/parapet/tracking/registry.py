"""The model registry, as far as a promotion needs it: versions by the digest of their ONNX file, and aliases."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parapet.errors import InputError, WorkError
from parapet.files import file_digest
from parapet.tracking.connection import connect, masked, sentence, unreachable
from parapet.tracking.runs import Runs

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

DIGEST_TAG = "parapet.onnx_sha256"
CHAMPION, PREVIOUS = "champion", "previous"


def register(uri: str, model_name: str, onnx_path: Path, run_id: str | None, tags: Mapping[str, str],
             description: str, example: np.ndarray, *, experiment: str = "parapet",
             artifact_root: Path | None = None) -> str:
    """Register a single-file ONNX model and return its version; the same file gets the same version again.

    `example` (2, C, H, W) float32 fixes the signature. `run_id` is the run that the model belongs to; without one
    it belongs to `experiment` only.
    """
    _check_name(model_name)
    mark = file_digest(onnx_path)
    with _client(uri) as client:
        _ensure_model(client, model_name)
        known = client.search_model_versions(f"name = '{model_name}' AND tags.`{DIGEST_TAG}` = '{mark}'")
        if known:
            return str(min(known, key=lambda version: int(version.version)).version)
        home = client.get_run(run_id).info.experiment_id if run_id else \
            Runs(client, experiment, artifact_root).experiment_id
        model = _logged_model(client, home, onnx_path, mark, run_id, example)
        # A server finds a model by its id. A bare database would look that id up at MLflow's global address and
        # make a database in the working directory for it, so it gets the place itself.
        served = uri.startswith("http")
        made = client.create_model_version(
            model_name, f"models:/{model.model_id}" if served else model.artifact_location, run_id=run_id,
            model_id=model.model_id if served else None, tags={**tags, DIGEST_TAG: mark}, description=description)
        return str(made.version)


def champion(uri: str, model_name: str) -> dict[str, Any] | None:
    """`version`, `tags` and `run_id` of the champion; None where the model or its champion does not exist."""
    _check_name(model_name)
    with _client(uri) as client:
        return _aliased(client, model_name, CHAMPION)


def set_alias(uri: str, model_name: str, alias: str, version: str) -> None:
    """Point an alias at a version."""
    _check_name(model_name)
    _check_alias(alias)
    with _client(uri) as client:
        client.set_registered_model_alias(model_name, alias, version)


def move_champion(uri: str, model_name: str, version: str) -> None:
    """Make `version` the champion; the one before keeps the alias `previous`. Repeating it changes nothing."""
    _check_name(model_name)
    with _client(uri) as client:
        before = _aliased(client, model_name, CHAMPION)
        if before is not None and before["version"] == str(version):
            return
        # In this order a kill in between leaves the old champion in place, never none.
        if before is not None:
            client.set_registered_model_alias(model_name, PREVIOUS, before["version"])
        client.set_registered_model_alias(model_name, CHAMPION, str(version))


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w.\- ]{1,200}", name) or not name.strip(". "):
        raise InputError(f"{name!r} cannot name a registered model; use up to 200 letters, digits, spaces, "
                         "'_', '-' and '.'.")


def _check_alias(alias: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", alias) or re.fullmatch(r"v\d+|latest", alias, re.IGNORECASE):
        raise InputError(f"{alias!r} cannot be an alias of a model version; use up to 200 letters, digits, '_' "
                         "and '-', but neither 'latest' nor 'v' and a number.")


@contextmanager
def _client(uri: str) -> Iterator[MlflowClient]:
    """A client of a registry that answers; what goes wrong inside becomes a WorkError of one sentence."""
    away = unreachable(uri)
    if away is not None:
        raise WorkError(away)
    try:
        yield connect(uri)
    except (InputError, WorkError):
        raise
    except Exception as error:  # MLflow raises its own kinds, requests' and SQLAlchemy's
        raise WorkError(unreachable(uri) or f"MLflow at {masked(uri)} refused: {sentence(error)}") from error


def _aliased(client: MlflowClient, model_name: str, alias: str) -> dict[str, Any] | None:
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version_by_alias(model_name, alias)
    except MlflowException as error:
        # A missing model and a missing alias have different codes.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return {"version": str(found.version), "tags": dict(found.tags), "run_id": found.run_id or None}


def _ensure_model(client: MlflowClient, model_name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _logged_model(client: MlflowClient, experiment: str, onnx_path: Path, mark: str, run_id: str | None,
                  example: np.ndarray) -> LoggedModel:
    """The logged model with this file, made unless an earlier try left it complete."""
    ready = client.search_logged_models([experiment], filter_string=f"tags.`{DIGEST_TAG}` = '{mark}'")
    for model in ready:
        if str(model.status) == "READY" and (model.source_run_id or None) == run_id:
            return model
    signature = _signature(onnx_path, example)
    model = client.create_logged_model(experiment, name=f"onnx-{mark[:12]}", source_run_id=run_id,
                                       tags={DIGEST_TAG: mark}, model_type="onnx")
    with tempfile.TemporaryDirectory(prefix="parapet-") as folder:
        _save(Path(folder) / "model", onnx_path, model.model_id, run_id, signature)
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    return client.finalize_logged_model(model.model_id, "READY")


def _save(folder: Path, onnx_path: Path, model_id: str, run_id: str | None, signature: ModelSignature) -> None:
    import mlflow.onnx
    import onnx
    from mlflow.models import Model

    # Requirements are given, or MLflow spends tens of seconds guessing them.
    requirements = [f"{package}=={installed(package)}" for package in ("mlflow", "numpy", "onnx", "onnxruntime")]
    mlflow.onnx.save_model(onnx.load(onnx_path), str(folder), mlflow_model=Model(run_id=run_id, model_id=model_id),
                           signature=signature, pip_requirements=requirements, save_as_external_data=False,
                           onnx_execution_providers=["CPUExecutionProvider"])
    # The very bytes that were measured, not a second serialisation of them.
    shutil.copyfile(onnx_path, folder / "model.onnx")


def _signature(onnx_path: Path, example: np.ndarray) -> ModelSignature:
    """What goes in and comes out, with any number of images."""
    import onnxruntime
    from mlflow.models import infer_signature

    session = onnxruntime.InferenceSession(str(onnx_path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: example})
    return infer_signature(example, dict(zip((output.name for output in session.get_outputs()), outputs)))

