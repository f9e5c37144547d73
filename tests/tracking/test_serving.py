"""Which version is served, and what is told where it cannot be; that it answers is in tests/cli."""

from __future__ import annotations

import socket

import pytest

from parapet.errors import InputError
from parapet.tracking.registration import register
from parapet.tracking.registry import Registry
from parapet.tracking.serving import find, serve
from tests.tracking.tiny_models import shipment


@pytest.fixture
def registry(story, sqlite_uri, tmp_path) -> Registry:
    found = Registry(sqlite_uri, f"model {story.id}")
    found.create_model()
    for bias in (1, 2):
        register(found, shipment(tmp_path, bias, story), {}, "")
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
        find(Registry(sqlite_uri, "nobody"), "champion")


@pytest.mark.parametrize(("host", "why"), [("127.0.0.1", "Address already in use"), ("no.such.host.invalid", "")])
def test_a_place_that_cannot_be_listened_on_is_told_at_once(registry, host, why):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError) as caught:
        port = taken.getsockname()[1]
        serve(registry, find(registry, "champion"), host=host, port=port, ready=print)
    assert f"{host}:{port} cannot be listened on ({why}" in str(caught.value)
    assert str(caught.value).endswith("; give another --host or --port (0 takes any free port).")
