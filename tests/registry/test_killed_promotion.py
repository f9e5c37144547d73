"""A promotion or rollback that is killed before any of its requests to MLflow: the next one leaves it done or not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parapet.config import Params
from parapet.promotion import rollback
from parapet.registry import promotion_lock as promotion_lock_module
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.promotion_lock import promotion_lock
from parapet.steps import promotion
from parapet.store import results
from parapet.tracking.connection import connect
from tests.tracking.tiny_models import package
from tests.tracking.tracked_story import Story

_EXPIRY = 0.6


@pytest.fixture(scope="module")
def processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.onnx", "mlflow.store.tracking.sqlalchemy_store", "parapet.steps.promotion",
                                    "onnxruntime"])
    return context


def promote(uri: str, story: Story, folder: Path, bias: int, kill_at: int = 0, counted: Path | None = None,
            refused: bool = False) -> None:
    """What `promotion.run` does with the registry, killed before request `kill_at`; `counted` gets their number."""
    requests = count_requests(kill_at)
    registry, card = MlflowRegistry(uri, story.id), folder / "card.md"
    card.write_text("the card")
    packed = replace(package(folder, bias, story), files=dict.fromkeys((results.WEIGHTS, results.TRAINING), card))
    try:
        with promotion_lock(registry, expiry=_EXPIRY) as ticket:
            version = promotion._challenge(registry, ticket, packed, {"bias": str(bias)}, card)
            if refused:
                raise ZeroDivisionError
            ticket.check()
            registry.move_champion(version.number)
    except ZeroDivisionError:
        assert refused
    if counted is not None:
        counted.write_text(str(requests[0]))


def roll_back(uri: str, model: str, kill_at: int = 0, counted: Path | None = None) -> None:
    """A rollback, killed before request `kill_at`; `counted` gets their number."""
    requests = count_requests(kill_at)
    # Below the shortest expiry that may be set, so that the next one need not wait.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion_lock_module, "_expiry", lambda ticket: _EXPIRY)
        rollback.run(Params(), uri=uri, model_name=model)
    if counted is not None:
        counted.write_text(str(requests[0]))


def count_requests(kill_at: int) -> list[int]:
    """The number of requests to MLflow from here on, in a list that changes; before `kill_at` the process is killed."""
    from mlflow import MlflowClient

    requests, main = [0], threading.current_thread()

    def before(method: Any) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread() is main:  # signs of life come when they come
                requests[0] += 1
                if requests[0] == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments, **options)
        return called

    for name, method in list(vars(MlflowClient).items()):
        if not name.startswith("_") and callable(method):
            setattr(MlflowClient, name, before(method))
    return requests


def run(processes: Any, *arguments: Any, target: Any = promote) -> int:
    child = processes.Process(target=target, args=arguments)
    child.start()
    child.join()
    return child.exitcode


def left(uri: str, story: Story) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """(the bias of each version that an alias points at, the bias of each version, the logged models without one)."""
    client, registry = connect(uri), MlflowRegistry(uri, story.id)
    versions = {str(one.version): one for one in client.search_model_versions(f"name = '{story.id}'")}
    experiment = client.get_experiment_by_name(story.experiment).experiment_id
    needed = {one.tags["parapet.logged_model"] for one in versions.values()}
    return ({alias: versions[number].tags["bias"] for alias, number in registry.aliases().items()},
            {number: one.tags["bias"] for number, one in versions.items()},
            [model.model_id for model in client.search_logged_models([experiment]) if model.model_id not in needed])


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 6))])
def test_of_a_promotion_killed_anywhere_nothing_is_left(sqlite_uri: str, tmp_path: Path, processes: Any, part: int,
                                                        refused: bool) -> None:
    story = Story(tmp_path)
    count = tmp_path / "count"
    assert run(processes, sqlite_uri, story, tmp_path, 9, 0, count, refused) == 0
    last = int(count.read_text())
    assert last > 20
    for kill_at in range(2 + part, last + 1, 6):
        one = Story(tmp_path)
        assert run(processes, sqlite_uri, one, tmp_path, 1) == 0
        outcome = run(processes, sqlite_uri, one, tmp_path, 2, kill_at, None, refused)
        # How often it looks at its ticket depends on the clock, so the last requests may not come.
        assert outcome == -signal.SIGKILL or (outcome == 0 and kill_at > last - 3)
        before = MlflowRegistry(sqlite_uri, one.id).aliases()
        assert run(processes, sqlite_uri, one, tmp_path, 3) == 0
        moved = before["champion"] != "1"
        aliases, versions, unneeded = left(sqlite_uri, one)
        assert unneeded == [], f"killed before request {kill_at} of {last}"
        assert aliases == {"champion": "3", "challenger": "3", "previous": "2" if moved else "1"}
        assert sorted(versions.values()) == (["1", "2", "3"] if moved else ["1", "3"])


def test_a_rollback_killed_anywhere_and_called_again_is_one_rollback(sqlite_uri: str, tmp_path: Path,
                                                                     processes: Any) -> None:
    story, count = Story(tmp_path), tmp_path / "count"
    assert run(processes, sqlite_uri, story, tmp_path, 1) == run(processes, sqlite_uri, story, tmp_path, 2) == 0
    champion, before = "2", "1"
    assert run(processes, sqlite_uri, story.id, 0, count, target=roll_back) == 0
    last = int(count.read_text())
    assert last > 10
    for kill_at in range(1, last + 1):
        champion, before = before, champion
        found = MlflowRegistry(sqlite_uri, story.id).aliases()
        assert (found["champion"], found["previous"]) == (champion, before)
        outcome = run(processes, sqlite_uri, story.id, kill_at, target=roll_back)
        assert outcome == -signal.SIGKILL or (outcome == 0 and kill_at > last - 3)
        if outcome:
            assert run(processes, sqlite_uri, story.id, target=roll_back) == 0
        found = MlflowRegistry(sqlite_uri, story.id).aliases()
        assert (found["champion"], found["previous"]) == (before, champion), f"killed before {kill_at} of {last}"
