"""MLflow's server, or the PostgreSQL behind it, goes away in the middle of a search, a sync or a promotion, and comes
back: nothing is lost, nothing is there twice."""

from __future__ import annotations

import importlib.util
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parapet.disk.files import read_json, write_json
from tests.faults.bench import Bench, Result
from tests.faults.ends import fault_of
from tests.faults.postgresql import Database, programs
from tests.faults.processes import Case, End
from tests.faults.states import differences
from tests.faults.verbs import Verb
from tests.tracking.conftest import Server

_VERBS: dict[str, tuple[str, ...]] = {
    "sync": ("sync", "--params", "tracked.yaml"), "promote": ("promote", "--candidate", "WORSE"),
    "search, tracked": ("search", "--params", "tracked.yaml")}
_STAGES = {"sync": "waiting", "promote": "evaluated", "search, tracked": "prepared"}
_GONE = ("MLflow", "PostgreSQL")
_LIMIT = 400.0


def impossible() -> str | None:
    """PostgreSQL is left out by itself where it is not installed."""
    return None


def run(bench: Bench, seed: int, place: int, verb: Verb | None = None) -> Result:
    """A verb whose server goes away at some moment, and the same verb once more."""
    chance = random.Random(f"servers {seed} {place}")
    name = verb.name if verb else tuple(_VERBS)[place % len(_VERBS)]
    gone = _GONE[place // len(_VERBS) % 2]
    if gone == "PostgreSQL" and (reason := _without_postgresql()):
        return Result(name, f"PostgreSQL gone: left out: {reason}", "undisturbed")
    wanted = _undisturbed(bench, name)
    result = Result(name)
    moment = chance.uniform(0.05, 1.0) * wanted["seconds"]
    pause = chance.choice((0.0, 0.5, 3.0, None))
    result.note(f"{gone} gone after {moment:.1f} s" + ("" if pause is None else f", back {pause:.1f} s later"))
    with bench.case() as case, _backend(case.folder, gone) as (server, stop, start):
        _prepare(bench, case, name)
        running = case.start(_words(bench, name), {"MLFLOW_TRACKING_URI": server.uri})
        running.ends_within(moment)
        stop()
        back = threading.Timer(pause, start) if pause is not None else None
        if back:
            back.start()
        end = running.end(_LIMIT)
        if back:
            back.join()
        else:
            start()
        result.ends.append(end)
        # A search goes on by itself, and so does a sync, which says what waits.
        result.fault = fault_of(end, [0] if name == "search, tracked" else [0, 1, 2])
        result.how = "undisturbed" if end.code == 0 else f"sentence ({end.code})"
        return result if result.fault else _again(bench, name, case, server, wanted, result)


def _again(bench: Bench, name: str, case: Case, server: Server, wanted: dict[str, Any], result: Result) -> Result:
    """Once more, with the server back: everything is there, and once."""
    words = ["sync", "--params", "tracked.yaml"] if name == "search, tracked" else _words(bench, name)
    last = case.run(words, _LIMIT, {"MLFLOW_TRACKING_URI": server.uri})
    result.ends.append(last)
    result.fault = fault_of(last, [0])
    if result.fault is None and (left := case.left_behind()):
        result.fault = f"leaves behind: {'; '.join(left)}"
    if result.fault is None and (lines := differences(wanted["held"], held(server.uri))):
        result.fault = f"MLflow does not hold what it does after an undisturbed run: {'; '.join(lines)}"
    return result


def _undisturbed(bench: Bench, name: str) -> dict[str, Any]:
    """What a server holds after an undisturbed run, and how long that took; made once."""
    path = bench.work / "references" / f"server-{name.replace(' ', '-')}.json"
    if not path.exists():
        with bench.case() as case, _backend(case.folder, "MLflow") as (server, _, _):
            _prepare(bench, case, name)
            end = case.run(_words(bench, name), _LIMIT, {"MLFLOW_TRACKING_URI": server.uri})
            _check(end)
            write_json(path, {"held": held(server.uri), "seconds": end.seconds})
    return read_json(path)


def _prepare(bench: Bench, case: Case, name: str) -> None:
    """The stage; a front of which no MLflow knows the runs, where a member of it is promoted."""
    bench.project.restore(_STAGES[name])
    if name == "promote":
        _check(case.run(["front"], _LIMIT))


def _check(end: End) -> None:
    if (fault := fault_of(end, [0])) is not None:
        raise RuntimeError(f"undisturbed, {end.command} {fault}:\n{end.said}\n{end.error}")


def _words(bench: Bench, name: str) -> list[str]:
    return [bench.project.named(word) for word in _VERBS[name]]


def _without_postgresql() -> str | None:
    if programs() is None:
        return "it is not installed (Debian: apt-get install postgresql)."
    return None if importlib.util.find_spec("psycopg") else "MLflow speaks to it through psycopg, which is missing."


@contextmanager
def _backend(folder: Path, gone: str) -> Iterator[tuple[Server, Callable[[], None], Callable[[], None]]]:
    """A server, and how what is to go away goes and comes back."""
    place = folder / "server"
    place.mkdir()
    database = Database() if gone == "PostgreSQL" else None
    if database:
        database.start()
    server = Server(place, database and database.uri)
    try:
        server.start()
        yield (server, database.kill, database.start) if database else (server, server.kill, server.start)
    finally:
        server.kill()
        if database:
            database.close()


def held(uri: str) -> dict[str, Any]:
    """Runs, models, versions and aliases of an MLflow server, without its own ids and times."""
    from parapet.tracking.connection import connect

    client = connect(uri)
    experiments = [found.experiment_id for found in client.search_experiments()]
    runs = {run.info.run_id: run for run in client.search_runs(experiments, max_results=1000)}
    names = {key: run.data.tags.get("candidate") or run.info.run_name for key, run in runs.items()}
    models = {model.name: client.get_registered_model(model.name) for model in client.search_registered_models()}
    versions = {(name, str(version.version)): version for name in models
                for version in client.search_model_versions(f"name = '{name}'")}
    return {
        "runs": sorted(f"{names[key]} {run.info.status} below {names.get(run.data.tags.get('mlflow.parentRunId'))}, on "
                       f"the front: {run.data.tags.get('on_front')}" for key, run in runs.items()),
        "metrics": sorted({f"{names[key]} {metric}" for key, run in runs.items() for metric in run.data.metrics}),
        "files": sorted(f"{names[key]} {path}" for key in runs for path in _files(client, key)),
        "versions": sorted(f"{name} {version.tags.get('candidate')}" for (name, _), version in versions.items()),
        "aliases": sorted(f"{name} {alias} {versions[name, str(number)].tags.get('candidate')}"
                          for name, model in models.items() for alias, number in model.aliases.items()),
        "logged models": len(client.search_logged_models(experiments))}


def _files(client: Any, run: str, folder: str = "") -> Iterator[str]:
    for found in client.list_artifacts(run, folder):
        if found.is_dir:
            yield from _files(client, run, found.path)
        else:
            yield found.path
