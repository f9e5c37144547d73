"""Which addresses can be no MLflow's, what is said of them, and that none is shown with its password."""

from __future__ import annotations

import re
import time

import pytest

from parapet.errors import InputError
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.tracking.address import address_problem, kind, shown, sqlite_path
from parapet.tracking.connection import target, unreachable
from parapet.tracking.loading import load_sending
from parapet.tracking.mlflow_tracker import run_ids
from parapet.tracking.relocation import _root

SECRET = "hunter2Xq9"
MEMORY = ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///:memory:?cache=shared", "sqlite+pysqlite://",
          "sqlite:///?x=1", "sqlite:///file::memory:?cache=shared&uri=true", "sqlite:///x.db?mode=memory&uri=true",
          "sqlite:///file:x?mode=memory&cache=shared&uri=true"]
WRONG = [*MEMORY, "foo", "sqlite:mlflow.db", f"sqlite://alice:{SECRET}@db/x", "sqlite:///file:x.db?uri=true", "http://",
         "https://:80", "http://.", "http://..", "http://*:1", "http://[v1.x]:5", "http://[::1]x:1", "http://\u3002:1",
         "http://" + "\u00fc" * 60, f"http://{'.'.join(['a' * 60] * 5)}", f"postgresql://alice:{SECRET}@a..b/x",
         f"mysql://alice:{SECRET}@./x", f"postgresql://{'a' * 70}/x", "https://a..b/x", f"http://{'a' * 64}.org",
         "http:", "http://host:abc",
         "http://host:0", "http://host:65536", "http://[::1", f"http://alice:{SECRET}[@127.0.0.1:5000",
         f"http://alice:x {SECRET}@127.0.0.1:1/", f"http://alice:x\n{SECRET}@127.0.0.1:1/", f"alice:x {SECRET}@host",
         f"http://alice:x/{SECRET}@host:1", f"http://alice:x' {SECRET}@host:1", f"http://alice:x://{SECRET} @host:1",
         f"http://host:1/?token={SECRET} {SECRET}", f"//alice:x {SECRET}@host", "postgresql://host:abc/x",
         "postgresql://host:99999/x", f"postgresql://alice:{SECRET}[@host/x", "postgresql:/x", "file:///data/mlruns"]
RIGHT = ["http://127.0.0.1:5000", "http://host.", f"http://{'a' * 63}.org", "http://my_host:80",
         "http://b\u00fccher.de", "postgresql://[::1]:5/x", "HTTPS://host/path",
         f"http://alice:{SECRET}@[::1]:5000/", "sqlite:///mlflow.db",
         "sqlite:////home/my project/mlflow.db", "sqlite+pysqlite:////data/x@y/mlflow.db", "databricks", "databricks://p",
         f"postgresql+psycopg://alice:{SECRET}?#@host:5432/x", "postgresql:///x", "mysql://host", "bogus://here"]


@pytest.mark.parametrize("uri", WRONG)
def test_an_address_that_can_be_no_mlflow_s_is_wrong_input_everywhere(uri: str) -> None:
    said = address_problem(uri)
    assert said is not None and re.search(r"; use .*\.$", said) and SECRET not in said and said.isprintable()
    assert unreachable(uri) == said
    assert run_ids(uri, "experiment", "search") is None
    with pytest.raises(InputError) as caught:
        MlflowRegistry(uri, "model").aliases()
    assert str(caught.value) == said
    load_sending(uri)
    assert target(uri, "experiment")


@pytest.mark.parametrize("uri", RIGHT)
def test_others_are_left_to_who_asks_there(uri: str) -> None:
    assert address_problem(uri) is None
    assert SECRET not in shown(uri)


@pytest.mark.parametrize("uri", MEMORY)
def test_a_database_in_memory_is_told_as_one(uri: str) -> None:
    assert sqlite_path(uri) is None
    assert "and a database in memory is gone when this program ends; use the http:// or " in str(address_problem(uri))


def test_passwords_of_any_signs_are_taken_out_of_an_address_as_a_whole() -> None:
    for sign in " \t\n\"'<>`@/:?#%[]{}\\,;&=ü\u2028\0":
        for password in (f"Q{sign}{SECRET}", f"{SECRET}{sign}Z", f"Q{sign}{SECRET}{sign}Z"):
            for uri in (f"http://alice:{password}@127.0.0.1:5000/x", f"postgresql+psycopg://alice:{password}@db/x",
                        f"alice:{password}@host", f"http://host/?token={password}"):
                assert SECRET not in shown(uri) or (sign == "&" and uri.startswith("http://host")), uri
    assert shown("http://alice:hun ter2@127.0.0.1:1/") == "http://127.0.0.1:1/"
    for uri in ("http://host:5000/", "sqlite:////a b/x@y.db"):
        assert shown(uri) == uri


def test_the_kind_is_the_scheme_without_a_driver() -> None:
    for uri, found in (("HTTP://x", "http"), ("postgresql+psycopg://x", "postgresql"), ("sqlite:///x", "sqlite"),
                       ("foo", ""), ("databricks", "databricks"), ("/a:b", "")):
        assert kind(uri) == found


def test_the_driver_of_a_database_without_a_host_is_asked_once() -> None:
    for uri in ("postgresql:///x?host=/nowhere", "postgresql+psycopg:///x?host=127.0.0.1&port=9"):
        begun = time.monotonic()
        assert "is away: connection" in str(unreachable(uri))
        assert time.monotonic() - begun < 30


def test_a_file_that_is_no_database_is_wrong_input_and_stays(tmp_path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("seed: 0\n" * 9)
    for place in (file, tmp_path):
        with pytest.raises(InputError, match="is no SQLite database, or a damaged one, and MLflow would keep its rec"):
            MlflowRegistry(f"sqlite:///{place}", "model").aliases()
    assert file.read_text() == "seed: 0\n" * 9


def test_an_address_of_artifacts_that_cannot_be_read_is_no_folder() -> None:
    assert _root("http://[::1/x") is None
