"""The same searches on the backend of a cluster: `mlflow server` before PostgreSQL, killed in the middle."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from parapet.tracking import BackgroundSender
from tests.tracking.conftest import Server
from tests.tracking.tracked_story import Story

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [
    Path(found).parent for found in [shutil.which("initdb")] if found]
pytest.importorskip("psycopg", reason="MLflow speaks to PostgreSQL through psycopg")
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed (Debian: apt-get install postgresql)")


def _as_nobody(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return []
    shutil.chown(folder, "postgres", "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of its own, as an SQLAlchemy address."""
    # Not below pytest's own folder, which belongs to the user that runs the tests.
    folder = Path(subprocess.run(["mktemp", "-d", "/tmp/parapet-postgresql.XXXXXX"], capture_output=True, text=True,
                                 check=True).stdout.strip())
    prefix, programs = _as_nobody(folder), PROGRAMS[-1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run([*prefix, programs / "initdb", "-D", folder / "data", "-U", "mlflow", "--auth=trust", "--no-sync"],
                   check=True, capture_output=True, cwd=folder)
    process = subprocess.Popen([*prefix, programs / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder,
                                "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"], cwd=folder,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        until = time.monotonic() + 60
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            assert time.monotonic() < until, "PostgreSQL did not start"
            time.sleep(0.2)
        yield f"postgresql://mlflow@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def served(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), database)
    server.start()
    yield server
    server.kill()


def test_a_search_arrives_whole_through_a_server_that_dies(served: Server, tmp_path: Path) -> None:
    story, told = Story(tmp_path, candidates=12), []
    sender = BackgroundSender(story.outbox, served.uri, story.experiment, tell=told.append, pause=0.2)
    story.tell()
    until = time.monotonic() + 60
    while story.outbox.pending() > 8 and time.monotonic() < until:
        time.sleep(0.01)
    served.kill()
    assert 0 < story.outbox.pending() < 15
    served.start()
    assert sender.close(120) == 0
    story.check(served.uri)


def test_two_senders_at_once_share_one_parent(served: Server, tmp_path: Path) -> None:
    one, other = Story(tmp_path, candidates=6), Story(tmp_path, candidates=6)
    other.id, other.experiment = one.id, one.experiment
    other.outbox = type(one.outbox)(tmp_path / "second")
    one.begin()
    other.begin()
    senders = [BackgroundSender(story.outbox, served.uri, story.experiment) for story in (one, other)]
    for story in (one, other):
        story.tell()
    assert [sender.close(120) for sender in senders] == [0, 0]
    parent, = one.parents(served.uri)
    assert {run.data.tags["mlflow.parentRunId"] for (run, *_) in one.children(served.uri).values()} == {
        parent.info.run_id}
