"""One promotion of a model at a time, on any number of machines: a lock whose tickets are versions in the registry.

It prevents this race: two promotions compare their models with the same old champion, both pass, and both move the
alias, so that the slower one's model becomes champion without having been compared with the other one's.

MLflow's aliases have no compare-and-set, but MLflow gives each version of a registered model a number that it never
uses again, not even after the version was deleted. Each promotion of NAME therefore creates a version of the model
NAME.promotion-lock, its ticket, and the lowest ticket holds the lock (Lamport's bakery algorithm, 1974). The owner
refreshes its ticket while it lives. Only times of the server are compared, so that clocks need not agree; because that
clock may be set too, a ticket expires only after a time without a refresh on the waiting process's own clock. A waiting
process that finds every lower ticket expired undoes the changes of their owners, deletes them, and goes on. Since no
number is used twice, it cannot delete a new ticket by mistake.

An owner that was stopped for longer than the expiry loses the lock, and `Ticket.check` raises PromotionRefused before
it moves the champion. A gap of one request between check and move remains, which a client cannot close.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from parapet.errors import InputError, ParapetError, PromotionRefused
from parapet.registry.contents import DIGEST_TAG
from parapet.registry.mlflow_registry import TICKET_TAG
from parapet.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version

_DESCRIPTION = "Tickets of promotions under way. It is empty most of the time, and Parapet needs it: do not delete it."
# Seconds, as in `promotion.lock_seconds`.
_DEFAULT_EXPIRY, _LONGEST_EXPIRY = 60.0, 86400.0
_OWNER, _NONCE, _EXPIRY, _BEGAN = "owner", "nonce", "expiry_seconds", "journal"


class Ticket:
    """The lock while it is held: records changes for `undo`, and checks whether the lock is still held."""

    def __init__(self, registry: Registry, queue: Registry, number: str, nonce: str) -> None:
        self.registry, self.queue, self.number, self.nonce = registry, queue, number, nonce
        self._journal: dict[str, Any] = {}
        # The journal of the previous promotion if it was killed after it had moved the champion; else empty.
        self.done_before: dict[str, Any] = {}

    def begin(self, **values: Any) -> None:
        """Record a change before it is made.

        `values` may be: `aliases` before the change; `verb`; `model_created`; `version`; `experiment`, that of the
        logged model; `copying` {digest, after}, the digest of the version that is copied, and the newest version
        number before the copy.
        """
        self._journal |= values
        self.queue.tag(self.number, {_BEGAN: json.dumps(self._journal)})

    def check(self) -> None:
        """Raise PromotionRefused where the lock is lost, because this process was stopped for too long."""
        if self.queue.version(self.number) is None:
            raise PromotionRefused(f"this promotion was suspended for longer than promotion.lock_seconds and lost its "
                                   f"lock on {self.registry.model_name}, so another one may have continued; the "
                                   "champion was not changed: promote again.")

    def undo(self) -> None:
        """Undo the recorded changes, unless the champion has moved already."""
        _undo(self.registry, self._journal, self.nonce)


@contextmanager
def promotion_lock(registry: Registry, *, expiry: float = 60.0,
                   tell: Callable[[str], None] = lambda text: None) -> Iterator[Ticket]:
    """Hold the lock on promotions of `registry`'s model; `tell` is called once where another process holds it.

    Waits for as long as that process lives. The lock of a promotion that was killed is taken over after its own
    `expiry` (not that of this one), in seconds since its last refresh, and its changes are undone. If the block ends
    with an error, the changes that it recorded with `Ticket.begin` are undone too.
    """
    queue, nonce = registry.queue(), uuid.uuid4().hex
    queue.create_model(_DESCRIPTION)
    number = queue.create_version(f"parapet-ticket:/{nonce}", {
        _OWNER: f"process {os.getpid()} on {socket.gethostname()}", _NONCE: nonce, _EXPIRY: f"{expiry:g}"}).number
    ticket, ended = Ticket(registry, queue, number, nonce), threading.Event()
    beat = threading.Thread(target=_beat, args=(queue, number, expiry / 4, ended), daemon=True)
    _refresh(queue, number)  # imports all modules that it needs, so that the thread imports none
    beat.start()
    try:
        _wait(ticket, registry, tell, pause=min(1.0, expiry / 4))
        yield ticket
    except BaseException:
        # If the lock is lost, its new owner has undone the changes. If MLflow is unreachable, the next promotion will.
        with suppress(ParapetError):
            ticket.check()
            ticket.undo()
        raise
    finally:
        ended.set()
        beat.join()
        with suppress(ParapetError):  # the ticket expires by itself
            queue.delete(number)


def _wait(ticket: Ticket, registry: Registry, tell: Callable[[str], None], pause: float) -> None:
    """Wait until every lower ticket is gone or expired; undo the changes of expired ones."""
    told, quiet = None, _Quiet()
    while True:
        ticket.check()
        now = _refresh(ticket.queue, ticket.number)
        before = [other for other in ticket.queue.versions() if int(other.number) < int(ticket.number)]
        living = [other for other in before if not _is_dead(other, now, quiet.seconds(other))]
        if not living:
            for other in before:
                journal = _journal(other, ticket.queue.model_name)
                if not _undo(registry, journal, other.tags.get(_NONCE, "")):
                    ticket.done_before = journal
                ticket.queue.delete(other.number)
            return
        if told != living[0].number:
            tell(f"another promotion of {registry.model_name} is under way "
                 f"({living[0].tags.get(_OWNER, 'by an unknown process')}); waiting for its end")
            told = living[0].number
        time.sleep(pause)


class _Quiet:
    """The time since tickets were refreshed, on this process's monotonic clock, which cannot be set."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def seconds(self, ticket: Version) -> float:
        """Seconds since the last refresh of `ticket` was first seen."""
        if ticket.number not in self._seen or self._seen[ticket.number][0] != ticket.changed:
            self._seen[ticket.number] = ticket.changed, time.monotonic()
        return time.monotonic() - self._seen[ticket.number][1]


def _is_dead(ticket: Version, now: int, quiet: float) -> bool:
    """Whether a ticket has expired.

    It has if no refresh was seen for its expiry, or if none was seen for half of its expiry and the last one is older
    than the expiry by the server's clock. `now` is the server's time in milliseconds, `quiet` the seconds
    without a refresh by this process's clock. The server's clock alone is not enough: after it is set forward all
    refreshes look old, and after it is set back none does.
    """
    expiry = _expiry(ticket)
    return quiet > expiry or (quiet > expiry / 2 and now - ticket.changed > 1000 * expiry)


def _undo(registry: Registry, journal: dict[str, Any], nonce: str) -> bool:
    """Undo a promotion that did not move the champion and return True; False for one that did, which is complete."""
    if "aliases" not in journal:
        return True
    before, now, made = journal["aliases"], registry.aliases(), registry.versions(TICKET_TAG, nonce)
    if copying := journal.get("copying"):
        # A copy carries the tags of its source and not this ticket's: its digest and its number identify it.
        made += [version for version in registry.versions(DIGEST_TAG, copying["digest"])
                 if int(version.number) > copying["after"]]
    touched = {version.number for version in made} | {journal.get("version")}
    if now.get(CHAMPION) in touched and now.get(CHAMPION) != before.get(CHAMPION):
        return False
    # Only aliases that still point where the promotion pointed them, because users move aliases too.
    if now.get(CHALLENGER) in touched and now.get(CHALLENGER) != before.get(CHALLENGER):
        _restore(registry, CHALLENGER, before.get(CHALLENGER))
    if now.get(PREVIOUS) == before.get(CHAMPION) and now.get(PREVIOUS) != before.get(PREVIOUS):
        _restore(registry, PREVIOUS, before.get(PREVIOUS))
    for version in made:
        registry.withdraw(version)
    if experiment := journal.get("experiment"):
        registry.sweep(experiment, nonce)
    if journal.get("model_created"):
        registry.delete_model()
    return True


def _restore(registry: Registry, alias: str, number: str | None) -> None:
    version = registry.version(number) if number is not None else None
    registry.point(alias, None if version is None else version.number)


def _beat(queue: Registry, number: str, every: float, ended: threading.Event) -> None:
    while not ended.wait(every):
        with suppress(Exception):  # MLflow may be unreachable for a moment; `check` finds a lost lock
            _refresh(queue, number)


def _refresh(queue: Registry, number: str) -> int:
    """Refresh a ticket; returns the time of the refresh by the server's clock, in milliseconds."""
    return queue.describe(number, f"alive {time.time_ns()}").changed


def _expiry(ticket: Version) -> float:
    """The expiry of a ticket in seconds; the default where its tag is missing or out of range."""
    try:
        seconds = float(ticket.tags.get(_EXPIRY, _DEFAULT_EXPIRY))
    except ValueError:
        return _DEFAULT_EXPIRY
    return seconds if 0 < seconds <= _LONGEST_EXPIRY else _DEFAULT_EXPIRY


def _journal(ticket: Version, queue: str) -> dict[str, Any]:
    """The changes that the owner of a ticket recorded. Raises InputError where the record cannot be read."""
    try:
        found: dict[str, Any] = json.loads(ticket.tags.get(_BEGAN, "{}"))
        aliases = found.get("aliases", {})
        if not all(isinstance(text, str) for pair in aliases.items() for text in pair):
            raise ValueError
        if copying := found.get("copying"):
            str(copying["digest"]), int(copying["after"])
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise InputError(f"version {ticket.number} of the registered model {queue}, the ticket of a promotion that was "
                         "killed, has a record of what that promotion had begun that cannot be read; check the "
                         "aliases, delete this version, and run the same command again.") from None
    return found
