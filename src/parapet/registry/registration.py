"""Creates versions: registers one ONNX file with the files beside it, or copies a version to another model."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

from parapet.disk.files import file_digest
from parapet.redaction import redacted, redacted_values
from parapet.registry.contents import DIGEST_TAG, FILE_TAG, MODEL, Damaged, check, digests, file_tags, is_whole
from parapet.registry.mlflow_registry import (
    LONGEST_DESCRIPTION,
    MODEL_TAG,
    TICKET_TAG,
    MlflowRegistry,
    as_version,
    asking,
)
from parapet.registry.registry import Version
from parapet.tracking.runs import Runs
from parapet.tracking.values import shortened

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature



@dataclass(frozen=True)
class ModelPackage:
    """The files of a version: a single-file ONNX model and further files, by their names in the version.

    `example` (2, C, H, W) float32 determines the signature. `run_id` is the run that the model belongs to; without one,
    or where the server does not know it, the model belongs to `experiment` only. A database without a server stores
    artifacts in `artifact_root`.
    """

    onnx: Path
    example: np.ndarray
    files: Mapping[str, Path]
    run_id: str | None = None
    experiment: str = "parapet"
    artifact_root: Path | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the ONNX file, which identifies a version."""
        return file_digest(self.onnx)

    @cached_property
    def digests(self) -> dict[str, str]:
        """The digests of all files, by the tags that hold them."""
        return {DIGEST_TAG: self.digest, **{FILE_TAG + name: file_digest(path) for name, path in self.files.items()}}

    def identity(self, *names: str) -> dict[str, str]:
        """The digests of the ONNX file and of the `files` of these names, by their tags: they identify a version."""
        return {tag: self.digests[tag] for tag in (DIGEST_TAG, *(FILE_TAG + name for name in names))}


def known(registry: MlflowRegistry, identity: Mapping[str, str]) -> Version | None:
    """The oldest version with these digests (`ModelPackage.identity`, `file_tags`) whose files are unchanged; None
    where there is none, or no digests are given."""
    if DIGEST_TAG not in identity:
        return None
    for version in registry.versions(DIGEST_TAG, identity[DIGEST_TAG]):
        if all(version.tags.get(name) == value for name, value in identity.items()):
            with contextlib.suppress(Damaged):
                check(registry, version)
                return version
    return None


def register(registry: MlflowRegistry, package: ModelPackage, tags: Mapping[str, str], description: str) -> Version:
    """Upload `package` and make it a version of the registered model, which has to exist.

    Files that an earlier attempt has uploaded completely are not uploaded again. A `description` is cut to 5,000
    characters.
    """
    with asking(registry.uri) as client:
        run_id, experiment = _run_and_experiment(client, package)
        model = _logged_model(client, registry.uri, experiment, package, run_id, tags.get(TICKET_TAG))
        made = client.create_model_version(
            registry.model_name, _place(registry.uri, model), run_id=run_id,
            model_id=model.model_id if registry.uri.startswith("http") else None,
            tags={**redacted_values(tags), **file_tags(model.tags), MODEL_TAG: model.model_id},
            description=shortened(redacted(description), LONGEST_DESCRIPTION))
        return as_version(made)


def attach(uri: str, run_id: str, files: Mapping[str, Path], folder: str) -> None:
    """Add `files` to the artifacts of a run, in `folder`; nothing is done for a run that the server does not know."""
    with asking(uri) as client:
        if _run_exists(client, run_id):
            for path in files.values():
                client.log_artifact(run_id, str(path), artifact_path=folder)


def experiment_of(registry: MlflowRegistry, package: ModelPackage) -> str:
    """The experiment that the logged model of `package` belongs to."""
    with asking(registry.uri) as client:
        return _run_and_experiment(client, package)[1]


def copy(source: MlflowRegistry, version: Version, target: MlflowRegistry) -> Version:
    """A version of `target` with the model of a version of `source` on the same server (MLflow's copy_model_version).

    The copy refers to the files of the source, which must be kept.
    """
    # MLflow prints messages, and the command line has its own.
    with asking(source.uri) as client, contextlib.redirect_stderr(io.StringIO()):
        made = client.copy_model_version(f"models:/{source.model_name}/{version.number}", target.model_name)
        return as_version(made)


def _run_and_experiment(client: MlflowClient, package: ModelPackage) -> tuple[str | None, str]:
    """The run that a model belongs to, if the server has it, and the experiment."""
    if package.run_id and _run_exists(client, package.run_id):
        return package.run_id, client.get_run(package.run_id).info.experiment_id
    return None, Runs(client, package.experiment, package.artifact_root).experiment_id


def _run_exists(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def _logged_model(client: MlflowClient, uri: str, experiment: str, package: ModelPackage, run_id: str | None,
                  ticket: str | None) -> LoggedModel:
    """The logged model with these files, created unless an earlier attempt left it complete."""
    wanted = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in package.digests.items())
    for model in client.search_logged_models([experiment], filter_string=wanted):
        if (str(model.status) == "READY" and (model.source_run_id or None) == run_id
                and is_whole(uri, model.artifact_location, model.tags)):
            return model
    signature = _signature(package.onnx, package.example)
    model = client.create_logged_model(experiment, name=f"onnx-{package.digest[:12]}", source_run_id=run_id,
                                       tags={**package.digests, **({TICKET_TAG: ticket} if ticket else {})},
                                       model_type="onnx")
    with tempfile.TemporaryDirectory(prefix="parapet-") as name:
        folder = Path(name) / "model"
        _save(folder, package.onnx, model.model_id, run_id, signature)
        for name, path in package.files.items():
            shutil.copyfile(path, folder / name)
        client.set_logged_model_tags(model.model_id, digests(folder))
        client.log_model_artifacts(model.model_id, str(folder))
    return client.finalize_logged_model(model.model_id, "READY")


def _place(uri: str, model: LoggedModel) -> str:
    """The source of a version: with a server the id of its logged model, else the address of the files.

    Without a server MLflow would look up the id at its global address, and create a database in the working directory.
    """
    return f"models:/{model.model_id}" if uri.startswith("http") else model.artifact_location


def _save(folder: Path, onnx_path: Path, model_id: str, run_id: str | None, signature: ModelSignature) -> None:
    import mlflow.onnx
    import onnx
    from mlflow.models import Model

    # With given requirements, because MLflow takes tens of seconds to infer them.
    requirements = [f"{package}=={installed(package)}" for package in ("mlflow", "numpy", "onnx", "onnxruntime")]
    mlflow.onnx.save_model(onnx.load(onnx_path), str(folder), mlflow_model=Model(run_id=run_id, model_id=model_id),
                           signature=signature, pip_requirements=requirements, save_as_external_data=False,
                           onnx_execution_providers=["CPUExecutionProvider"])
    # The same bytes that were measured, not another serialisation of the graph.
    shutil.copyfile(onnx_path, folder / MODEL)


def _signature(onnx_path: Path, example: np.ndarray) -> ModelSignature:
    """Shapes and types of inputs and outputs, for any number of images."""
    from mlflow.models import infer_signature

    from parapet.deployment.runtime import session

    running = session(onnx_path)
    outputs = running.run(None, {running.get_inputs()[0].name: example})
    return infer_signature(example, dict(zip((output.name for output in running.get_outputs()), outputs)))
