"""A server of MLflow behind a certificate: whose is taken, and what is said where it is not."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from parapet.tracking.connection import unreachable
from tests.k8s.certificates import made

VARIABLES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_INSECURE_TLS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def uri(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "mlflow.crt", certificates / "mlflow.key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Healthy)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_authority_that_mlflow_is_told_of_is_trusted(uri: str, certificates: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificates / "ca.crt"))
    assert unreachable(uri) is None


def test_without_it_one_sentence_says_what_to_name(uri: str) -> None:
    said = unreachable(uri)
    assert said is not None and said.startswith(f"MLflow at {uri} is away: its certificate is not trusted (")
    assert said.endswith("); name the file of its authority in MLFLOW_TRACKING_SERVER_CERT_PATH.")
    assert said.count("\n") == 0


def test_another_authority_is_not_trusted(uri: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(made(tmp_path) / "ca.crt"))
    assert "its certificate is not trusted (" in str(unreachable(uri))


def test_a_file_that_is_not_there_is_named(uri: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "none.crt"))
    assert "none.crt" in str(unreachable(uri))


def test_whoever_switches_the_check_off_gets_in(uri: str, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert unreachable(uri) is None


def test_the_probe_of_the_deployment_sees_a_certificate_that_was_renewed(uri: str, certificates: Path,
                                                                        tmp_path: Path) -> None:
    from k8s.base.mlflow import alive

    port = int(uri.rsplit(":", 1)[1])
    assert alive.problem(str(certificates / "mlflow.crt"), port) is None
    renewed = made(tmp_path)
    assert alive.problem(str(renewed / "mlflow.crt"), port) == (
        f"the certificate in {renewed / 'mlflow.crt'} is not the one that is served")
    assert str(alive.problem(str(renewed / "mlflow.crt"), 1)).startswith("MLflow cannot be asked: ")


def test_a_certificate_is_for_a_year_and_of_the_authority(certificates: Path) -> None:
    for name in ("mlflow", "postgres"):
        done = subprocess.run(["openssl", "verify", "-purpose", "sslserver", "-verify_hostname", f"{name}.parapet.svc",
                               "-CAfile", certificates / "ca.crt", certificates / f"{name}.crt"],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (certificates / f"{name}.key").stat().st_mode & 0o077 == 0
