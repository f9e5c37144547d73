"""One promotion of a model at a time, on whatever machines: a queue of tickets that lives in the registry.

Aliases have no compare-and-set, but MLflow gives each version of a registered model a number that nothing else ever
gets, not even after it was deleted. So whoever wants to promote NAME draws a version of the model NAME.promotion-lock:
the lowest ticket holds the lock (Lamport's bakery, 1974). A ticket is refreshed while its owner lives, and the times
compared are all the server's, so that clocks need not agree; because that clock may be set too, a ticket has expired
only after a time without a sign on the waiting one's own. Who finds every ticket before his own expired undoes what its
owner began, removes it, and goes on; since no number comes twice, nobody can remove a fresh ticket by mistake.

A holder that was stopped for longer than the expiry loses the lock, and learns of it in `Ticket.check` before it
touches the champion; what is left is the time of one request, which no check from outside can close.
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
from typing import TYPE_CHECKING, Any, cast

from parapet.errors import InputError, ParapetError, PromotionRefused
from parapet.registry.contents import DIGEST_TAG
from parapet.registry.registration import TICKET_TAG, sweep, withdraw
from parapet.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version, asking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_DESCRIPTION = "Tickets of promotions under way. It is empty most of the time, and Parapet needs it: do not delete it."
# Seconds, as `promotion.lock_seconds` has them.
_DEFAULT_EXPIRY, _LONGEST_EXPIRY = 60.0, 86400.0
_OWNER, _NONCE, _EXPIRY, _BEGAN = "owner", "nonce", "expiry_seconds", "journal"


class Ticket:
    """The lock, held: a place in the journal of what was begun, and the question whether it is still held."""

    def __init__(self, registry: Registry, queue: Registry, number: str, nonce: str) -> None:
        self.registry, self.queue, self.number, self.nonce = registry, queue, number, nonce
        self._journal: dict[str, Any] = {}
        # What the one before had begun and also done, where it died before it could say so; else empty.
        self.done_before: dict[str, Any] = {}

    def begin(self, **values: Any) -> None:
        """Write down what is about to change, before it does: `aliases` as they are, `verb`, `model_created`,
        `version`, `experiment` that a model is logged in, `copying` {digest, after}: the digest of a version that is
        copied, and the newest version before."""
        self._journal |= values
        self.queue.tag(self.number, {_BEGAN: json.dumps(self._journal)})

    def check(self) -> None:
        """Raise PromotionRefused where the lock is lost, because this process stood still for too long."""
        if self.queue.version(self.number) is None:
            raise PromotionRefused(f"this promotion stood still for longer than promotion.lock_seconds and lost its "
                                   f"lock on {self.registry.model_name}, so another one may have gone on; the champion "
                                   "was not touched: promote again.")

    def undo(self) -> None:
        """Leave the registry as it was before `begin`, unless the champion has moved already."""
        _undo(self.registry, self._journal, self.nonce)


@contextmanager
def promotion_lock(registry: Registry, *, expiry: float = 60.0,
                   tell: Callable[[str], None] = lambda text: None) -> Iterator[Ticket]:
    """Hold the lock on promotions of `registry`'s model; `tell` is told once where somebody else holds it.

    Waits for as long as the other one lives. A promotion that died is taken over `expiry` seconds after its last sign
    of life (its own expiry counts, not this one's), and what it began is undone. Where the block ends with an error,
    what it began by `Ticket.begin` is undone too.
    """
    queue = Registry.queue(registry)
    if queue.create_model():
        with asking(queue.uri) as client:
            client.update_registered_model(queue.model_name, _DESCRIPTION)
    nonce = uuid.uuid4().hex
    with asking(queue.uri) as client:
        number = str(client.create_model_version(queue.model_name, f"parapet-ticket:/{nonce}", tags={
            _OWNER: f"process {os.getpid()} on {socket.gethostname()}", _NONCE: nonce,
            _EXPIRY: f"{expiry:g}"}).version)
    ticket, ended = Ticket(registry, queue, number, nonce), threading.Event()
    beat = threading.Thread(target=_beat, args=(queue, number, expiry / 4, ended), daemon=True)
    with asking(queue.uri) as client:
        _refresh(client, queue.model_name, number)  # whatever that has to import is not imported by the thread
    beat.start()
    try:
        _wait(ticket, registry, tell, pause=min(1.0, expiry / 4))
        yield ticket
    except BaseException:
        # Whoever took the lock over has undone it already. Where MLflow went away, the next promotion does.
        with suppress(ParapetError):
            ticket.check()
            ticket.undo()
        raise
    finally:
        ended.set()
        beat.join()
        with suppress(ParapetError):  # it expires by itself
            queue.delete(number)


def _wait(ticket: Ticket, registry: Registry, tell: Callable[[str], None], pause: float) -> None:
    """Until every ticket before this one is gone or expired."""
    told, quiet = None, _Quiet()
    while True:
        ticket.check()
        with asking(registry.uri) as client:
            now = _refresh(client, ticket.queue.model_name, ticket.number)
            before = [other for other in _tickets(client, ticket.queue.model_name)
                      if int(other.version) < int(ticket.number)]
        living = [other for other in before if not _is_dead(other, now, quiet.seconds(other))]
        if not living:
            for other in before:
                journal = _journal(other)
                if not _undo(registry, journal, other.tags.get(_NONCE, "")):
                    ticket.done_before = journal
                ticket.queue.delete(str(other.version))
            return
        if told != living[0].version:
            tell(f"another promotion of {registry.model_name} is under way "
                 f"({living[0].tags.get(_OWNER, 'by somebody unknown')}); waiting for its end")
            told = living[0].version
        time.sleep(pause)


class _Quiet:
    """For how long tickets have not changed, by the clock of this process that nobody can set."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def seconds(self, ticket: ModelVersion) -> float:
        """Since its last sign of life was first seen."""
        number, sign = str(ticket.version), _sign(ticket)
        if number not in self._seen or self._seen[number][0] != sign:
            self._seen[number] = sign, time.monotonic()
        return time.monotonic() - self._seen[number][1]


def _is_dead(ticket: ModelVersion, now: int, quiet: float) -> bool:
    """Whether a ticket has expired: its last sign is old, and none came while twice as many were due as have to.

    The server's clock may be set forward, which makes signs old that are not, and back, which makes them never old.
    """
    expiry = _expiry(ticket)
    return quiet > expiry or (quiet > expiry / 2 and now - _sign(ticket) > 1000 * expiry)


def _undo(registry: Registry, journal: dict[str, Any], nonce: str) -> bool:
    """Take back a promotion that did not move the champion; one that did is done, and the answer is False."""
    if "aliases" not in journal:
        return True
    before, now, made = journal["aliases"], registry.aliases(), registry.tagged(TICKET_TAG, nonce)
    if copying := journal.get("copying"):
        # A copy carries the tags of its source and not this ticket's: it is known by what it is and when it came.
        made += [version for version in registry.tagged(DIGEST_TAG, copying["digest"])
                 if int(version.number) > copying["after"]]
    touched = {version.number for version in made} | {journal.get("version")}
    if now.get(CHAMPION) in touched and now.get(CHAMPION) != before.get(CHAMPION):
        return False
    # Only what points where the promotion pointed it: people move aliases too.
    if now.get(CHALLENGER) in touched and now.get(CHALLENGER) != before.get(CHALLENGER):
        _restore(registry, CHALLENGER, before.get(CHALLENGER))
    if now.get(PREVIOUS) == before.get(CHAMPION) and now.get(PREVIOUS) != before.get(PREVIOUS):
        _restore(registry, PREVIOUS, before.get(PREVIOUS))
    for version in made:
        withdraw(registry, version)
    if experiment := journal.get("experiment"):
        sweep(registry, experiment, nonce)
    if journal.get("model_created"):
        registry.delete_model()
    return True


def _restore(registry: Registry, alias: str, number: str | None) -> None:
    version: Version | None = registry.version(number) if number is not None else None
    registry.point(alias, None if version is None else version.number)


def _beat(queue: Registry, number: str, every: float, ended: threading.Event) -> None:
    while not ended.wait(every):
        with suppress(Exception), asking(queue.uri) as client:  # MLflow may be away for a moment; `check` finds out
            _refresh(client, queue.model_name, number)


def _refresh(client: MlflowClient, queue: str, number: str) -> int:
    """A sign of life; returns the server's time of it, in milliseconds."""
    return _sign(client.update_model_version(queue, number, description=f"alive {time.time_ns()}"))


def _sign(ticket: ModelVersion) -> int:
    """The server's time of a ticket's last sign of life, in milliseconds; a server gives every version one."""
    return cast(int, ticket.last_updated_timestamp)


def _tickets(client: MlflowClient, queue: str) -> list[ModelVersion]:
    return list(client.search_model_versions(f"name = '{queue}'"))


def _expiry(ticket: ModelVersion) -> float:
    """Seconds; the default where the ticket says none, or none that a promotion may set."""
    try:
        seconds = float(ticket.tags.get(_EXPIRY, _DEFAULT_EXPIRY))
    except ValueError:
        return _DEFAULT_EXPIRY
    return seconds if 0 < seconds <= _LONGEST_EXPIRY else _DEFAULT_EXPIRY


def _journal(ticket: ModelVersion) -> dict[str, Any]:
    """What the owner of a ticket had begun. InputError where somebody wrote something else there."""
    try:
        found: dict[str, Any] = json.loads(ticket.tags.get(_BEGAN, "{}"))
        aliases = found.get("aliases", {})
        if not all(isinstance(text, str) for pair in aliases.items() for text in pair):
            raise ValueError
        if copying := found.get("copying"):
            str(copying["digest"]), int(copying["after"])
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise InputError(f"version {ticket.version} of the registered model {ticket.name}, a ticket of a promotion "
                         "that died, does not say in a form that can be read what that promotion had begun; see that "
                         "the aliases are right, delete this version, and run the same command again.") from None
    return found
