"""The model registry, as far as promotions need it: versions, the aliases that point at them, and how to ask for them.

The aliases are `champion` (the version to serve), `previous` (the champion before it) and `challenger` (the last one
that was put before the gate).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parapet.errors import InputError, ParapetError, WorkError, told
from parapet.quoting import quote
from parapet.redaction import redacted
from parapet.tracking.address import shown, sqlite_path, wrong
from parapet.tracking.connection import closed_database, connect, sentence, unreachable
from parapet.tracking.values import shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
# Where MLflow keeps its tables in PostgreSQL or MySQL, a description may be that long.
LONGEST_DESCRIPTION = 5000
# What Parapet keeps its queues of promotions under, and how long a name it writes.
_QUEUE, _LONGEST_NAME = ".promotion-lock", 200
_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_REFUSED = {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}


@dataclass(frozen=True)
class Version:
    """A version of a registered model: its number, its tags, the run it belongs to."""

    number: str
    tags: dict[str, str]
    run_id: str | None


class Registry:
    """One registered model on one MLflow; every method asks anew, for others promote too.

    Methods raise WorkError of one sentence where MLflow is away or refuses, InputError where it refuses the
    credentials.
    """

    def __init__(self, uri: str, model_name: str) -> None:
        """InputError for a name that MLflow cannot keep."""
        check_name(model_name)
        self.uri, self.model_name = uri, model_name

    @classmethod
    def queue(cls, registry: Registry) -> Registry:
        """The registered model that stands beside another one for the promotions that wait (promotion_lock)."""
        queue = cls(registry.uri, registry.model_name)
        queue.model_name = f"{registry.model_name[:_LONGEST_NAME - len(_QUEUE)]}{_QUEUE}"
        return queue

    def aliases(self) -> dict[str, str]:
        """The number of the version by alias; empty where the model does not exist."""
        with asking(self.uri) as client, _absent_is_none():
            found = client.get_registered_model(self.model_name)
            return {alias: str(number) for alias, number in found.aliases.items()}
        return {}

    def aliased(self, alias: str) -> Version | None:
        """The version that an alias points at; None where the model or the alias does not exist, and where the alias
        points at a version that was deleted."""
        check_alias(alias)
        number = self.aliases().get(alias)
        return None if number is None else self.version(number)

    def version(self, number: str) -> Version | None:
        """A version by its number; None where there is none."""
        with asking(self.uri) as client, _absent_is_none():
            found = client.get_model_version(self.model_name, number)
            return Version(str(found.version), dict(found.tags), found.run_id or None)
        return None

    def tagged(self, tag: str, value: str) -> list[Version]:
        """The versions with this tag, oldest first."""
        with asking(self.uri) as client:
            found = client.search_model_versions(f"name = '{self.model_name}' AND tags.`{tag}` = '{value}'")
            return sorted((Version(str(version.version), dict(version.tags), version.run_id or None)
                           for version in found), key=lambda version: int(version.number))

    def point(self, alias: str, number: str | None) -> None:
        """Point an alias at a version, or with None take the alias away."""
        check_alias(alias)
        with asking(self.uri) as client:
            if number is None:
                client.delete_registered_model_alias(self.model_name, alias)
            else:
                client.set_registered_model_alias(self.model_name, alias, number)

    def move_champion(self, number: str) -> None:
        """Make a version the champion; the one before, unless it was deleted, keeps the alias `previous`. Repeating it
        changes nothing."""
        before = self.aliases().get(CHAMPION)
        if before == number:
            return
        # In this order a kill in between leaves the old champion in place, never none.
        if kept := before is not None and self.version(before) is not None:
            self.point(PREVIOUS, before)
        self.point(CHAMPION, number)
        if not kept and self.aliases().get(PREVIOUS) == number:  # the one before was deleted, and this one was previous
            self.point(PREVIOUS, None)

    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with asking(self.uri) as client:
            for name, value in tags.items():
                client.set_model_version_tag(self.model_name, number, name, redacted(value))

    def describe(self, number: str, text: str) -> None:
        """Set the description of a version, of which MLflow keeps 5,000 characters."""
        text = shortened(redacted(text), LONGEST_DESCRIPTION)
        with asking(self.uri) as client:
            client.update_model_version(self.model_name, number, description=text)

    def newest(self) -> int:
        """The highest number of a version; 0 where there is none."""
        with asking(self.uri) as client:
            return max((int(version.version) for version in
                        client.search_model_versions(f"name = '{self.model_name}'")), default=0)

    def delete(self, number: str) -> None:
        """Delete a version and what points at it; one that is gone already is no error."""
        with asking(self.uri) as client, _absent_is_none():
            client.delete_model_version(self.model_name, number)

    def exists(self) -> bool:
        """Whether the registered model exists."""
        with asking(self.uri) as client, _absent_is_none():
            return client.get_registered_model(self.model_name) is not None
        return False

    def create_model(self) -> bool:
        """Make the registered model; False where it exists."""
        from mlflow.exceptions import MlflowException

        with asking(self.uri) as client:
            try:
                client.create_registered_model(self.model_name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return False
        return True

    def delete_model(self) -> None:
        """Delete the registered model unless it has versions."""
        with asking(self.uri) as client, _absent_is_none():
            if not client.search_model_versions(f"name = '{self.model_name}'", max_results=1):
                client.delete_registered_model(self.model_name)


def check_name(name: str) -> None:
    """Raise InputError for a name of a registered model that MLflow cannot keep, or that Parapet keeps for itself."""
    if not re.fullmatch(rf"[\w.\- ]{{1,{_LONGEST_NAME}}}", name) or not name.strip(". "):
        raise InputError(f"{quote(name)} cannot name a registered model; use up to {_LONGEST_NAME} letters, digits, "
                         "spaces, '_', '-' and '.'.")
    if name.endswith(_QUEUE):
        raise InputError(f"{quote(name)} cannot name a registered model: names that end in {_QUEUE} are those of the "
                         "queues in which promotions wait.")


def check_alias(alias: str) -> None:
    """Raise InputError for an alias that MLflow cannot keep."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", alias) or re.fullmatch(r"v\d+|latest", alias, re.IGNORECASE):
        raise InputError(f"{quote(alias)} cannot be an alias of a model version; use up to 200 letters, digits, '_' "
                         "and '-', but neither 'latest' nor 'v' and a number.")


@contextmanager
def asking(uri: str) -> Iterator[MlflowClient]:
    """A client of the registry at `uri`; what goes wrong inside becomes a WorkError or InputError of one sentence."""
    if (fault := wrong(uri) or closed_database(uri)) is not None:
        raise InputError(fault)
    if (away := unreachable(uri)) is not None:
        raise WorkError(away)
    try:
        yield connect(uri)
    except ParapetError:
        raise
    except Exception as error:  # MLflow raises its own kinds, requests' and SQLAlchemy's
        if type(error).__name__ == "UnsupportedModelRegistryStoreURIException":
            raise InputError(f"MLFLOW_TRACKING_URI is {shown(uri)}, where no model registry can be; use the http:// "
                             "or https:// address of a server, or sqlite:///FILE.db, postgresql://, mysql:// or mssql://."
                             ) from error
        refused = _credentials_refused(uri, error)
        if refused:
            raise InputError(refused) from error
        # A server's words about its own disk are no news of this machine's.
        if (sqlite_path(uri) or getattr(error, "errno", None)) and (here := told(error)) is not None:
            raise here from error
        raise WorkError(unreachable(uri) or f"MLflow at {shown(uri)} refused: {sentence(error).rstrip('.')}."
                        ) from error


@contextmanager
def _absent_is_none() -> Iterator[None]:
    """Swallow MLflow's word that something does not exist."""
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
