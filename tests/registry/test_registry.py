"""The registry on a real MLflow: aliases that move, names that it cannot keep, refusals in one sentence."""

import pytest

from parapet.errors import InputError, WorkError
from parapet.registry.mlflow_registry import MlflowRegistry, asking
from parapet.registry.registration import register
from parapet.tracking.connection import connect
from tests.tracking.refusing_server import refusing_server
from tests.tracking.tiny_models import package


@pytest.fixture
def registry(story, sqlite_uri) -> MlflowRegistry:
    return MlflowRegistry(sqlite_uri, f"model {story.id}")


def test_the_champion_moves_and_the_one_before_is_kept(story, registry, tmp_path):
    assert not registry.exists() and registry.aliases() == {} and registry.aliased("champion") is None
    assert registry.create_model() and not registry.create_model() and registry.exists()
    for bias in (1, 2):
        register(registry, package(tmp_path, bias, story), {"robust": str(bias)}, "")
    assert registry.aliased("champion") is None
    registry.point("challenger", "2")
    for number in ("1", "2", "2"):
        registry.move_champion(number)
    found = registry.aliased("champion")
    assert (found.number, found.tags["robust"], found.run_id) == ("2", "2", None)
    assert registry.aliases() == {"champion": "2", "previous": "1", "challenger": "2"}
    with pytest.raises(WorkError, match="refused"):
        registry.move_champion("9")
    assert registry.aliased("champion").number == "2"
    registry.point("challenger", None)
    assert "challenger" not in registry.aliases()


def test_versions_are_tagged_found_and_deleted_and_their_numbers_do_not_come_back(story, registry, tmp_path):
    registry.create_model()
    first = register(registry, package(tmp_path, 1, story), {"colour": "red"}, "")
    registry.tag(first.number, {"colour": "green", "shape": "round"})
    assert [version.number for version in registry.versions("colour", "green")] == ["1"]
    assert registry.versions("colour", "red") == []
    registry.delete_model()
    assert registry.exists(), "it has a version"
    for _ in range(2):
        registry.delete(first.number)
    assert registry.version("1") is None
    assert register(registry, package(tmp_path, 1, story), {}, "").number == "2"
    registry.delete("2")
    registry.delete_model()
    assert not registry.exists()


@pytest.mark.parametrize(("error", "kind", "said"), [
    (OSError(28, "No space left on device", "mlruns/card.md"), WorkError,
     "the disk is full (while writing mlruns/card.md); free some space and run the same command again: what is done is "
     "kept."),
    (RuntimeError("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO runs]"), WorkError,
     "the disk is full; free some space and run the same command again: what is done is kept."),
    (PermissionError(13, "Permission denied", "mlruns/models"), InputError,
     "mlruns/models cannot be written (Permission denied); give a folder that you may write to, or correct its "
     "permissions."),
    (RuntimeError("it is so"), WorkError, "MLflow at {uri} refused: it is so."),
])
def test_what_the_operating_system_refuses_is_told_as_such(registry, error, kind, said):
    with pytest.raises(kind) as told, asking(registry.uri):
        raise error
    assert str(told.value) == said.format(uri=registry.uri)


def test_a_database_that_may_not_be_written_is_wrong_input(registry, monkeypatch):
    monkeypatch.setattr("os.access", lambda place, mode: place.is_dir())
    path = registry.uri.removeprefix("sqlite:///")
    with pytest.raises(InputError) as told:
        registry.aliases()
    assert str(told.value) == (f"{path} cannot be written, and MLflow's database {path} needs it; correct its "
                               "permissions, or set MLFLOW_TRACKING_URI to another database or server.")


@pytest.mark.parametrize("bad", ["", " ", "a/b", "models:/x", "..", "it's", "x" * 201, "a\nb"])
def test_names_that_a_registry_refuses_are_wrong_input(sqlite_uri, bad):
    with pytest.raises(InputError, match="cannot name a registered model; use up to 200 letters"):
        MlflowRegistry(sqlite_uri, bad)


@pytest.mark.parametrize("bad", ["", "v3", "Latest", "a b", "a/b"])
def test_aliases_that_a_registry_refuses_are_wrong_input(sqlite_uri, bad):
    with pytest.raises(InputError, match="cannot be an alias"):
        MlflowRegistry(sqlite_uri, "model").point(bad, "1")


def test_a_registry_that_is_away_is_one_sentence(free_port, tmp_path, story):
    registry = MlflowRegistry(f"http://me:secret@127.0.0.1:{free_port}", "m")
    for call in (lambda: register(registry, package(tmp_path, 1, story), {}, ""), registry.aliases,
                 lambda: registry.move_champion("1")):
        with pytest.raises(WorkError) as caught:
            call()
        assert str(caught.value) == f"MLflow at http://127.0.0.1:{free_port} is away: connection refused."


@pytest.mark.parametrize(("status", "body", "sentence"), [
    (401, b"You are not authenticated.", "refuses the credentials (401); set MLFLOW_TRACKING_USERNAME and "
     "MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) to those of a user who may change registered models."),
    (403, b'{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}',
     "refuses the credentials (403); set MLFLOW_TRACKING_USERNAME"),
    (403, b"Invalid Host header - possible DNS rebinding attack detected",
     "does not know itself by that name (403, Invalid Host header); start it with --allowed-hosts"),
])
def test_a_server_that_refuses_the_credentials_is_wrong_input(status, body, sentence):
    with refusing_server(status, body) as uri, pytest.raises(InputError) as caught:
        MlflowRegistry(uri, "m").aliases()
    assert sentence in str(caught.value)


def test_a_server_keeps_a_registry_too(story, server, tmp_path):
    registry = MlflowRegistry(server.uri, f"model {story.id}")
    registry.create_model()
    register(registry, package(tmp_path, 1, story), {}, "")
    registry.move_champion("1")
    assert registry.aliased("champion").number == "1"
    assert connect(server.uri).get_model_version_by_alias(registry.model_name, "champion").version == "1"
