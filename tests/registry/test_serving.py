"""Which version is served, and what is told where it cannot be; that it answers is in tests/cli."""

from __future__ import annotations

import socket

import pytest

from parapet.errors import InputError
from parapet.registry.contents import Damaged
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.serving import find, serve
from parapet.tracking.connection import connect
from tests.tracking.lost_versions import lose
from tests.tracking.tiny_models import registered


@pytest.fixture
def registry(story, sqlite_uri, tmp_path) -> MlflowRegistry:
    found = registered(sqlite_uri, story, tmp_path, 2)
    found.move_champion("2")
    return found


def test_a_version_is_found_by_its_alias_and_by_its_number(registry):
    assert [find(registry, name).number for name in ("champion", "1", "2")] == ["2", "1", "2"]


@pytest.mark.parametrize("name", ["previous", "3"])
def test_a_version_that_is_not_there_is_told_with_those_that_are(registry, name):
    with pytest.raises(InputError) as caught:
        find(registry, name)
    assert str(caught.value) == (f"the registered model {registry.model_name} has no version {name!r}; give the number "
                                 "of a version or one of its aliases: champion (version 2).")


def test_a_model_that_is_not_there_is_told(sqlite_uri):
    with pytest.raises(InputError, match="it has none yet, so promote a model first"):
        find(MlflowRegistry(sqlite_uri, "nobody"), "champion")


@pytest.mark.parametrize(("host", "why"), [("127.0.0.1", "Address already in use"), ("no.such.host.invalid", "")])
def test_a_place_that_cannot_be_listened_on_is_told_at_once(registry, host, why):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError) as caught:
        port = taken.getsockname()[1]
        serve(registry, find(registry, "champion"), host=host, port=port, ready=print)
    assert f"{host}:{port} cannot be listened on ({why}" in str(caught.value)
    assert str(caught.value).endswith("; give another --host or --port (0 takes any free port).")


def test_a_version_whose_loader_was_changed_is_refused_and_its_code_is_not_run(registry, story, tmp_path):
    version = find(registry, "champion")
    model = version.tags["parapet.logged_model"]
    place = next(path for path in story.artifact_root.rglob("MLmodel") if model in path.parts)
    (place.parent / "code").mkdir()
    (place.parent / "code/evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    place.write_text(place.read_text().replace("loader_module: mlflow.onnx", "loader_module: evil\n    code: code"))
    assert "evil" in place.read_text()
    with pytest.raises(Damaged, match="version 2 of .* is damaged: its MLmodel is not the file that was registered"):
        serve(registry, version, host="127.0.0.1", port=0, ready=print)
    assert not (tmp_path / "ran").exists()


def test_a_version_without_digests_is_refused(registry):
    connect(registry.uri).delete_model_version_tag(registry.model_name, "1", "parapet.onnx_sha256")
    with pytest.raises(InputError, match="version 1 of .* has no digest of its graph, so it was not"):
        find(registry, "1")


def test_an_alias_of_a_version_that_was_deleted_is_told(registry):
    registry.point("challenger", "1")
    lose(registry, "2")
    with pytest.raises(InputError) as caught:
        find(registry, "champion")
    assert str(caught.value) == (f"the registered model {registry.model_name} has no version 'champion' (it points at "
                                 "version 2, which was deleted); give the number of a version or one of its aliases: "
                                 "challenger (version 1).")
