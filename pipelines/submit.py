"""submit: uploads a version of the pipeline, named by the git revision, runs it, and follows the run to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parapet.disk.files import file_digest
from parapet.errors import InputError, WorkError
from pipelines.connection import Endpoint, asking, is_conflict, pages
from pipelines.following import failure, follow

# The start of a version's description; the digest of the uploaded file follows.
_CONTENT = "content sha256 "


@dataclass(frozen=True)
class Version:
    """A version of a pipeline on the server."""

    pipeline_id: str
    version_id: str
    name: str


def version_name(revision: str, digest: str, *, dirty: bool) -> str:
    """The name of a version: the git revision and the start of the file's digest, so that other parameters give another
    version."""
    return f"{revision[:12]}{'-dirty' if dirty else ''}-{digest[:8]}"


def upload(client: Any, endpoint: Endpoint, pipeline: str, compiled: Path, revision: str, *, dirty: bool) -> Version:
    """The version of `pipeline` with the file `compiled`, which is uploaded unless it is already on the server.

    Raises InputError where a version of that name has other content, and what `asking` raises.
    """
    digest = file_digest(compiled)
    name, described = version_name(revision, digest, dirty=dirty), _CONTENT + digest
    with asking(endpoint):
        pipeline_id = client.get_pipeline_id(pipeline)
    if pipeline_id is None:
        try:
            with asking(endpoint):
                client.upload_pipeline(str(compiled), pipeline, described)
        except WorkError as error:
            if not is_conflict(error):  # a conflict means that another client created it at the same time
                raise
        with asking(endpoint):
            pipeline_id = client.get_pipeline_id(pipeline)
    known = _version(client, endpoint, pipeline_id, name)
    if known is None:
        try:
            with asking(endpoint):
                client.upload_pipeline_version(str(compiled), name, pipeline_id=pipeline_id, description=described)
        except WorkError as error:
            if not is_conflict(error):
                raise
        known = _version(client, endpoint, pipeline_id, name)
    if known is None or (known.description or described) != described:
        raise InputError(f"version {name} of pipeline {pipeline} holds something else; commit what changed, so that it "
                         "has another revision.")
    return Version(pipeline_id, known.pipeline_version_id, name)


def run(client: Any, endpoint: Endpoint, version: Version, *, experiment: str, title: str, say: Callable[[str], None],
        wait: bool, arguments: dict[str, Any] | None = None, page: str | None = None,
        service_account: str | None = None, interval: float = 10.0, patience: float = 600.0,
        longest: float | None = None) -> str:
    """Start a run of `version` and, with `wait`, follow it to its end; returns the run's id. Raises WorkError where the
    run fails, and what `asking` raises."""
    with asking(endpoint):
        group = client.create_experiment(experiment, namespace=endpoint.namespace)
        made = client.run_pipeline(group.experiment_id, title, pipeline_id=version.pipeline_id,
                                   version_id=version.version_id, params=arguments or {},
                                   service_account=service_account)
    run_id: str = made.run_id
    say(f"run {run_id} of {version.name}" + (f": {page.rstrip('/')}/#/runs/details/{run_id}" if page else ""))
    if not wait:
        return run_id
    done = follow(client, endpoint, run_id, say, interval=interval, patience=patience, longest=longest)
    if str(done.state) != "SUCCEEDED":
        raise WorkError(f"run {run_id} {str(done.state).lower()}: {failure(done)}")
    return run_id


def _version(client: Any, endpoint: Endpoint, pipeline_id: str, name: str) -> Any | None:
    found = (version for page in pages(endpoint, lambda token: client.list_pipeline_versions(
        pipeline_id, page_token=token, page_size=100)) for version in page.pipeline_versions or [])
    return next((version for version in found if version.display_name == name), None)
