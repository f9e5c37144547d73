"""Implements `Registry` with MLflow's model registry; an MLflow error becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from parapet.errors import InputError, ParapetError, WorkError, told
from parapet.redaction import redacted
from parapet.registry.registry import LONGEST_NAME, QUEUE, Registry, Version, check_alias, check_name
from parapet.tracking.address import address_problem, shown, sqlite_path
from parapet.tracking.connection import connect, sentence, unreachable, unusable_database
from parapet.tracking.values import shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# The tag of a version and of its logged model with the nonce of the ticket that they were made under (promotion_lock).
TICKET_TAG = "parapet.ticket"
MODEL_TAG = "parapet.logged_model"
# The longest description, in characters, that MLflow's tables in PostgreSQL or MySQL can hold.
LONGEST_DESCRIPTION = 5000
_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_REFUSED = {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}


class MlflowRegistry(Registry):
    """One registered model of the MLflow at `uri`."""

    def __init__(self, uri: str, model_name: str) -> None:
        """Raises InputError for a name that `check_name` refuses."""
        check_name(model_name)
        self.uri, self.model_name = uri, model_name

    def queue(self) -> MlflowRegistry:
        queue = MlflowRegistry(self.uri, self.model_name)
        queue.model_name = f"{self.model_name[:LONGEST_NAME - len(QUEUE)]}{QUEUE}"
        return queue

    def exists(self) -> bool:
        with asking(self.uri) as client, _absent_is_none():
            return client.get_registered_model(self.model_name) is not None
        return False

    def create_model(self, description: str | None = None) -> bool:
        from mlflow.exceptions import MlflowException

        with asking(self.uri) as client:
            try:
                client.create_registered_model(self.model_name, description=description)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return False
        return True

    def delete_model(self) -> None:
        with asking(self.uri) as client, _absent_is_none():
            if not client.search_model_versions(f"name = '{self.model_name}'", max_results=1):
                client.delete_registered_model(self.model_name)

    def aliases(self) -> dict[str, str]:
        with asking(self.uri) as client, _absent_is_none():
            found = client.get_registered_model(self.model_name)
            return {alias: str(number) for alias, number in found.aliases.items()}
        return {}

    def point(self, alias: str, number: str | None) -> None:
        check_alias(alias)
        with asking(self.uri) as client:
            if number is None:
                client.delete_registered_model_alias(self.model_name, alias)
            else:
                client.set_registered_model_alias(self.model_name, alias, number)

    def create_version(self, source: str, tags: Mapping[str, str]) -> Version:
        with asking(self.uri) as client:
            return as_version(client.create_model_version(self.model_name, source, tags=dict(tags)))

    def version(self, number: str) -> Version | None:
        with asking(self.uri) as client, _absent_is_none():
            return as_version(client.get_model_version(self.model_name, number))
        return None

    def versions(self, tag: str | None = None, value: str = "") -> list[Version]:
        wanted = f"name = '{self.model_name}'" + (f" AND tags.`{tag}` = '{value}'" if tag else "")
        with asking(self.uri) as client:
            return sorted(map(as_version, client.search_model_versions(wanted)),
                          key=lambda version: int(version.number))

    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        with asking(self.uri) as client:
            for name, value in tags.items():
                client.set_model_version_tag(self.model_name, number, name, redacted(value))

    def describe(self, number: str, text: str) -> Version:
        text = shortened(redacted(text), LONGEST_DESCRIPTION)
        with asking(self.uri) as client:
            return as_version(client.update_model_version(self.model_name, number, description=text))

    def delete(self, number: str) -> None:
        with asking(self.uri) as client, _absent_is_none():
            client.delete_model_version(self.model_name, number)

    def withdraw(self, version: Version) -> None:
        self.delete(version.number)
        if model := version.tags.get(MODEL_TAG):
            with asking(self.uri) as client:
                _delete_unless_needed(client, model)

    def sweep(self, experiment: str, ticket: str) -> None:
        with asking(self.uri) as client:
            for model in client.search_logged_models([experiment], filter_string=f"tags.`{TICKET_TAG}` = '{ticket}'"):
                _delete_unless_needed(client, model.model_id)


def as_version(found: ModelVersion) -> Version:
    """The `Version` of an MLflow model version."""
    return Version(str(found.version), dict(found.tags), found.run_id or None, found.last_updated_timestamp or 0)


def _delete_unless_needed(client: MlflowClient, model: str) -> None:
    if not client.search_model_versions(f"tags.`{MODEL_TAG}` = '{model}'", max_results=1):
        client.delete_logged_model(model)


@contextmanager
def asking(uri: str) -> Iterator[MlflowClient]:
    """A client of the registry at `uri`; an error in the block becomes a WorkError or InputError of one sentence."""
    if (fault := address_problem(uri) or unusable_database(uri)) is not None:
        raise InputError(fault)
    if (away := unreachable(uri)) is not None:
        raise WorkError(away)
    try:
        yield connect(uri)
    except ParapetError:
        raise
    except Exception as error:  # MLflow raises its own errors, and those of requests and SQLAlchemy
        if type(error).__name__ == "UnsupportedModelRegistryStoreURIException":
            raise InputError(f"MLFLOW_TRACKING_URI is {shown(uri)}, where no model registry can be; use the http:// "
                             "or https:// address of a server, or sqlite:///FILE.db, postgresql://, mysql:// or mssql://."
                             ) from error
        refused = _credentials_refused(uri, error)
        if refused:
            raise InputError(refused) from error
        # An error of a server's disk says nothing about the disk of this machine.
        if (sqlite_path(uri) or getattr(error, "errno", None)) and (here := told(error)) is not None:
            raise here from error
        raise WorkError(unreachable(uri) or f"MLflow at {shown(uri)} refused: {sentence(error).rstrip('.')}."
                        ) from error


@contextmanager
def _absent_is_none() -> Iterator[None]:
    """Suppress MLflow's error that something does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != _ABSENT:
            raise


def _credentials_refused(uri: str, error: Exception) -> str | None:
    status = _REFUSED.get(getattr(error, "error_code", ""), getattr(getattr(error, "response", None), "status_code", 0))
    if status not in (401, 403):
        return None
    if "Invalid Host header" in str(error):
        return (f"MLflow at {shown(uri)} does not know itself by that name (403, Invalid Host header); start it "
                "with --allowed-hosts naming the host and port that are in the address.")
    return (f"MLflow at {shown(uri)} refuses the credentials ({status}); set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) to those of a user who may change registered models.")
