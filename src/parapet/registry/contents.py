"""Downloads the files of a version, and compares them with the digests in its tags.

Without this, anybody who can write to the artifact store could change what is attacked at the gate and what is served.
The tags are stored in MLflow's database.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from parapet.disk.files import file_digest, replacing_folder
from parapet.errors import WorkError, disk_full, is_disk_full
from parapet.redaction import redacted
from parapet.registry.mlflow_registry import MlflowRegistry, asking
from parapet.registry.registry import Version
from parapet.tracking.connection import sentence, unreachable

DIGEST_TAG = "parapet.onnx_sha256"
MODEL = "model.onnx"
FILE_TAG = "parapet.sha256."
# What MLflow writes beside a model. Parapet does not read these files; versions by older releases lack their digests.
_MLFLOW_FILES = ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt")
# What MLflow adds when it downloads a version by the name of its model.
_ADDED_BY_MLFLOW = "registered_model_meta"


class Damaged(WorkError):
    """The files of a version are not those that were registered, or cannot be downloaded."""


def file_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Those of a version's tags that hold digests of its files."""
    return {name: value for name, value in tags.items() if name == DIGEST_TAG or name.startswith(FILE_TAG)}


def digests(folder: Path) -> dict[str, str]:
    """The digest of every file in `folder`, by the tag that holds it."""
    return {DIGEST_TAG if name == MODEL else FILE_TAG + name: file_digest(path)
            for name, path in _files(folder).items()}


def download(registry: MlflowRegistry, version: Version, folder: Path) -> Path:
    """Download all files that were registered with a version into `folder`, unless they are there; returns `folder`.

    Raises `Damaged` where a file is missing, changed, or not registered with the version.
    """
    if (folder / MODEL).exists() and _damage(folder, version.tags, alone=False) is None:
        return folder
    with asking(registry.uri) as client, replacing_folder(folder) as partial:
        place = client.get_model_version_download_uri(registry.model_name, version.number)
        name = f"version {version.number} of {registry.model_name}"
        try:
            fetch(registry.uri, place, partial)
        except Exception as error:  # of MLflow, of the store or of the operating system
            if unreachable(registry.uri) is not None:
                raise
            if _is_full_here(error):
                raise disk_full(error) from None
            raise Damaged(f"the files of {name} cannot be brought from {redacted(place)} ({sentence(error)}); put them "
                          "back there, or promote that candidate again.") from None
        if (damage := _damage(partial, version.tags)) is not None:
            raise Damaged(f"{name} is damaged: {damage}; promote that candidate again.")
    return folder


def check(registry: MlflowRegistry, version: Version) -> None:
    """Raise `Damaged` unless the files of a version are those that were registered."""
    with tempfile.TemporaryDirectory(prefix="parapet-") as folder:
        download(registry, version, Path(folder) / "version")


def is_whole(uri: str, place: str, tags: Mapping[str, str]) -> bool:
    """Whether the files at the address `place` are exactly those whose digests are in `tags`."""
    with tempfile.TemporaryDirectory(prefix="parapet-") as folder:
        try:
            fetch(uri, place, Path(folder))
            return digests(Path(folder)) == file_tags(tags)
        except Exception as error:  # deleted, incomplete or unreachable: as in `download`
            if unreachable(uri) is not None:
                raise
            if _is_full_here(error):
                raise disk_full(error) from None
            return False


def _is_full_here(error: Exception) -> bool:
    """Whether this machine's disk is full, and not that of a server, whose message MLflow passes on."""
    return is_disk_full(error) and (isinstance(error, OSError) or tempfile.gettempdir() in str(error))


def fetch(uri: str, place: str, folder: Path) -> None:
    """Copy the artifacts at the address `place` into `folder`, unverified."""
    from mlflow.artifacts import download_artifacts
    from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # Parapet has a progress line of its own
    with tempfile.TemporaryDirectory(prefix="parapet-") as name:
        # Without a server this is the artifact folder itself and not a copy; with one it is a folder below `name`.
        found = download_artifacts(artifact_uri=place, dst_path=name, tracking_uri=uri)
        shutil.copytree(found, folder, symlinks=True, dirs_exist_ok=True)


def _damage(folder: Path, tags: Mapping[str, str], *, alone: bool = True) -> str | None:
    """The first problem of the files in `folder`, None if there is none; with `alone`, extra files are a problem."""
    there = _files(folder)
    expected = {MODEL if tag == DIGEST_TAG else tag.removeprefix(FILE_TAG): value
                for tag, value in file_tags(tags).items()}
    for name, value in expected.items():
        if name not in there or not there[name].is_file():
            return f"its {name} is missing"
        if file_digest(there[name]) != value:
            return f"its {name} is not the file that was registered"
    allowed = {*expected, _ADDED_BY_MLFLOW, *(() if _MLFLOW_FILES[0] in expected else _MLFLOW_FILES)}
    added = sorted(set(there) - allowed) if alone and expected else []
    return f"its {added[0]} was not registered with it" if added else None


def _files(folder: Path) -> dict[str, Path]:
    """Everything in `folder` that is not a folder (files, links, pipes), by its path in `folder`."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
            or path.is_symlink() or not path.is_dir()}
