"""One promotion at a time, on a real server and with real processes that are killed and stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parapet.errors import InputError, PromotionRefused
from parapet.registry import promotion_lock as lock
from parapet.registry.contents import DIGEST_TAG, download
from parapet.registry.mlflow_registry import TICKET_TAG, MlflowRegistry
from parapet.registry.promotion_lock import promotion_lock
from parapet.registry.registration import copy, register
from tests.registry.promotions import interrupted, take_turns
from tests.tracking.tiny_models import package, registered


@pytest.fixture
def registry(story, server, tmp_path) -> MlflowRegistry:
    """Three versions; the first is champion, the second was before it, the third was challenger."""
    found = registered(server.uri, story, tmp_path, 3)
    for alias, number in (("champion", "1"), ("previous", "2"), ("challenger", "3")):
        found.point(alias, number)
    return found


def start(registry: MlflowRegistry, version: str, expiry: float, seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "tests.tracking.promoting", registry.uri, registry.model_name,
                             version, str(expiry), str(seconds)], stdout=subprocess.PIPE, text=True,
                            cwd=Path(__file__).parents[2])


def tickets(registry: MlflowRegistry) -> list:
    return registry.queue().versions()


def test_of_two_promotions_at_once_the_second_waits_and_meets_the_new_champion(registry):
    # The gate takes longer than the expiry: signs of life keep the lock.
    pair = [start(registry, version, expiry=1.5, seconds=3) for version in ("2", "3")]
    said = [process.communicate(timeout=60)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    first, second = sorted(said, key=lambda text: "waiting" in text)
    winner = "2" if said[0] is first else "3"
    assert first == "inside, champion is 1\nmoved\n"
    assert "is under way (process " in second and f"inside, champion is {winner}\n" in second
    assert registry.aliases()["previous"] == winner and tickets(registry) == []


def test_a_promotion_that_was_killed_is_undone_and_does_not_block_the_next(registry):
    before = registry.aliases()
    dead = start(registry, "2", expiry=2, seconds=60)
    assert dead.stdout.readline() == "inside, champion is 1\n"
    assert registry.aliases()["challenger"] == "2"
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    started, told = time.monotonic(), []
    with promotion_lock(registry, expiry=30, tell=told.append):
        waited = time.monotonic() - started
        assert registry.aliases() == before
    assert 0.5 < waited < 15 and len(told) == 1 and tickets(registry) == []


def test_a_promotion_that_stood_still_learns_that_it_lost_the_lock(registry):
    stopped = start(registry, "2", expiry=1, seconds=3)
    assert stopped.stdout.readline() == "inside, champion is 1\n"
    stopped.send_signal(signal.SIGSTOP)
    with promotion_lock(registry, expiry=30):
        registry.move_champion("3")
    stopped.send_signal(signal.SIGCONT)
    said, _ = stopped.communicate(timeout=30)
    assert stopped.returncode == 3 and "was suspended for longer than promotion.lock_seconds and lost its lock" in said
    assert registry.aliases() == {"champion": "3", "previous": "1", "challenger": "3"}


@pytest.mark.parametrize("jump", [-86_400_000, 3_600_000])
def test_a_clock_that_was_set_neither_keeps_a_dead_lock_nor_takes_a_living_one(registry, monkeypatch, jump):
    """In milliseconds: by a day back, and by an hour forward."""
    real = lock._refresh
    monkeypatch.setattr(lock, "_refresh", lambda *words: real(*words) + jump)
    living = start(registry, "2", expiry=8, seconds=6)
    assert living.stdout.readline() == "inside, champion is 1\n"
    with promotion_lock(registry, expiry=30):
        assert registry.aliases()["champion"] == "2"
    assert living.communicate(timeout=30)[0] == "moved\n"
    dead = start(registry, "3", expiry=4, seconds=60)
    assert dead.stdout.readline() == "inside, champion is 2\n"
    dead.kill()
    dead.communicate()
    started = time.monotonic()
    with promotion_lock(registry, expiry=30):
        assert 1 < time.monotonic() - started < 60


def test_what_was_begun_is_taken_back_after_an_error(registry, story, tmp_path):
    before = registry.aliases()
    with interrupted(registry) as ticket:
        ticket.begin(aliases=before)
        made = register(registry, package(tmp_path, 4, story), {TICKET_TAG: ticket.nonce}, "")
        ticket.begin(version=made.number)
        registry.point("challenger", made.number)
        registry.point("previous", "1")  # as far as moving the champion had come
    assert registry.aliases() == before and registry.version(made.number) is None and tickets(registry) == []


def test_a_copy_that_was_begun_is_taken_back_and_other_versions_stay(registry, story, tmp_path):
    there = registered(registry.uri, story, tmp_path, 1, f"{registry.model_name} prod")
    source = registry.version("1")
    with interrupted(there) as ticket:
        ticket.begin(aliases=there.aliases(), copying={"digest": source.tags[DIGEST_TAG], "after": there.newest()})
        copy(registry, source, there)
    assert there.newest() == 1 and registry.version("1") is not None
    # The model behind the source is still there to serve.
    assert download(registry, source, tmp_path / "back").is_dir()


def test_a_copy_into_a_model_that_did_not_exist_leaves_none(registry):
    fresh, source = MlflowRegistry(registry.uri, f"{registry.model_name} prod"), registry.version("1")
    with interrupted(fresh) as ticket:
        ticket.begin(aliases={}, model_created=True, copying={"digest": source.tags[DIGEST_TAG], "after": 0})
        fresh.create_model()
        copy(registry, source, fresh)
    assert not fresh.exists()


def test_what_people_moved_meanwhile_stays_where_they_put_it(registry):
    with pytest.raises(PromotionRefused), promotion_lock(registry) as ticket:
        ticket.begin(aliases=registry.aliases(), version="2")
        registry.point("challenger", "2")
        for alias in ("champion", "challenger"):
            registry.point(alias, "3")
        raise PromotionRefused("somebody else was here")
    assert registry.aliases() == {"champion": "3", "previous": "2", "challenger": "3"}


def test_a_promotion_that_had_moved_the_champion_is_not_taken_back(registry):
    with interrupted(registry) as ticket:
        ticket.begin(aliases=registry.aliases(), version="3")
        registry.move_champion("3")
    assert registry.aliases() == {"champion": "3", "previous": "1", "challenger": "3"}


def test_a_model_that_the_refused_promotion_made_is_gone_again(story, server):
    fresh = MlflowRegistry(server.uri, f"fresh {story.id}")
    with interrupted(fresh) as ticket:
        ticket.begin(aliases={}, model_created=True)
        fresh.create_model()
    assert not fresh.exists()


def test_many_at_once_are_never_inside_together(story, sqlite_uri):
    """On a bare database."""
    take_turns(MlflowRegistry(sqlite_uri, f"crowd {story.id}"), 5, expiry=4)


def _ticket(registry, **tags):
    registry.queue().create_model()
    registry.queue().create_version("parapet-ticket:/x", {"owner": "somebody", "nonce": "x", "expiry_seconds": "1",
                                                          **tags})


@pytest.mark.parametrize("journal", ["{", "[]", "7", '{"aliases": []}', '{"aliases": {"champion": 1}}', "[" * 5000,
                                     '{"copying": {"after": 1}}'])
def test_a_ticket_whose_journal_cannot_be_read_is_a_sentence(registry, journal):
    before = registry.aliases()
    _ticket(registry, journal=journal)
    said = ("version 1 of the registered model .*, the ticket of a promotion that was killed, has a record of what "
            "that promotion had begun that cannot be read")
    with pytest.raises(InputError, match=said), promotion_lock(registry, expiry=1):
        pass
    assert registry.aliases() == before


@pytest.mark.parametrize("text", ["abc", "nan", "inf", "1e9", "-1", "0", ""])
def test_an_expiry_that_no_promotion_may_set_is_the_default(registry, text):
    _ticket(registry, expiry_seconds=text)
    ticket, = tickets(registry)
    assert lock._expiry(ticket) == 60.0
