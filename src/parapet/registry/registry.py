"""The interface of a model registry for promotions: versions of a registered model, and aliases that point at them.

The aliases are `champion` (the version to serve), `previous` (the champion before it) and `challenger` (the last
version that was tested by the gate). `MlflowRegistry` is the implementation.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from parapet.errors import InputError
from parapet.quoting import quote

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
# The suffix of the registered model in which promotions queue, and the longest name.
QUEUE, LONGEST_NAME = ".promotion-lock", 200


@dataclass(frozen=True)
class Version:
    """A version of a registered model: its number, its tags, the run it belongs to, and the registry's time of its last
    change of description, in milliseconds."""

    number: str
    tags: dict[str, str]
    run_id: str | None
    changed: int = 0


class Registry(Protocol):
    """One registered model; nothing is cached, because other processes promote too.

    Methods raise WorkError of one sentence where the registry is unreachable or refuses a request, InputError where it
    refuses the credentials.
    """

    model_name: str

    @abstractmethod
    def queue(self) -> Registry:
        """The registered model beside this one whose versions are the tickets of promotions (promotion_lock)."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether the registered model exists."""

    @abstractmethod
    def create_model(self, description: str | None = None) -> bool:
        """Create the registered model; returns False where it exists already."""

    @abstractmethod
    def delete_model(self) -> None:
        """Delete the registered model unless it has versions."""

    @abstractmethod
    def aliases(self) -> dict[str, str]:
        """The number of the version by alias; empty where the model does not exist."""

    @abstractmethod
    def point(self, alias: str, number: str | None) -> None:
        """Point an alias at a version, or with None delete the alias."""

    @abstractmethod
    def create_version(self, source: str, tags: Mapping[str, str]) -> Version:
        """Create a version with a number that no version had before; returns it."""

    @abstractmethod
    def version(self, number: str) -> Version | None:
        """A version by its number; None where there is none."""

    @abstractmethod
    def versions(self, tag: str | None = None, value: str = "") -> list[Version]:
        """The versions, or those with this tag, oldest first."""

    @abstractmethod
    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""

    @abstractmethod
    def describe(self, number: str, text: str) -> Version:
        """Set the description of a version, cut to 5,000 characters; returns the version after the change."""

    @abstractmethod
    def delete(self, number: str) -> None:
        """Delete a version and the aliases that point at it; a version that does not exist is no error."""

    @abstractmethod
    def withdraw(self, version: Version) -> None:
        """Delete a version, and its files unless another version, of any registered model, needs them."""

    @abstractmethod
    def sweep(self, experiment: str, ticket: str) -> None:
        """Delete the files in an experiment that were uploaded under a ticket, unless a version needs them."""

    def aliased(self, alias: str) -> Version | None:
        """The version that an alias points at; None where the model or the alias does not exist, and where the alias
        points at a version that was deleted."""
        check_alias(alias)
        number = self.aliases().get(alias)
        return None if number is None else self.version(number)

    def newest(self) -> int:
        """The highest version number; 0 where there is no version."""
        return max((int(version.number) for version in self.versions()), default=0)

    def move_champion(self, number: str) -> None:
        """Make a version the champion; the old champion, unless it was deleted, gets the alias `previous`.

        A repeated call changes nothing.
        """
        before = self.aliases().get(CHAMPION)
        if before == number:
            return
        # In this order, a process that is killed in between leaves the old champion, and never none.
        if kept := before is not None and self.version(before) is not None:
            self.point(PREVIOUS, before)
        self.point(CHAMPION, number)
        if not kept and self.aliases().get(PREVIOUS) == number:  # the old champion was deleted
            self.point(PREVIOUS, None)


def check_name(name: str) -> None:
    """Raise InputError for a name of a registered model that MLflow cannot store, or that Parapet reserves."""
    if not re.fullmatch(rf"[\w.\- ]{{1,{LONGEST_NAME}}}", name) or not name.strip(". "):
        raise InputError(f"{quote(name)} cannot name a registered model; use up to {LONGEST_NAME} letters, digits, "
                         "spaces, '_', '-' and '.'.")
    if name.endswith(QUEUE):
        raise InputError(f"{quote(name)} cannot name a registered model: names that end in {QUEUE} are those of the "
                         "queues in which promotions wait.")


def check_alias(alias: str) -> None:
    """Raise InputError for an alias that MLflow cannot store."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", alias) or re.fullmatch(r"v\d+|latest", alias, re.IGNORECASE):
        raise InputError(f"{quote(alias)} cannot be an alias of a model version; use up to 200 letters, digits, '_' "
                         "and '-', but neither 'latest' nor 'v' and a number.")
