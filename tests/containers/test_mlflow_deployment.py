"""MLflow from the manifests, in containers, before PostgreSQL and an S3 store, everything but the store behind TLS:
accounts, a run, a model, a backup that is put back, a certificate that is renewed, and a store whose keys open no more
than they have to."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parapet.errors import InputError
from parapet.registry.contents import download
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.registration import register
from parapet.tracking.connection import connect, unreachable
from pipelines import images
from tests.containers import engine
from tests.containers.pods import Cluster
from tests.k8s.certificates import made
from tests.k8s.test_manifests import render
from tests.tracking import tiny_models

ADMIN, PASSWORD = "admin", "a long password for the administrator"
TEAM = "a long password for the team"
URI, ROOT = "https://127.0.0.1:5000", Path(__file__).parents[2]
# Whose key opens which bucket.
BUCKETS = {"mlflow-object-store": "parapet-mlflow", "mlflow-backup-store": "parapet-backups"}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(engine.missing() is not None, reason=str(engine.missing())),
              pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the overlays")]


@dataclass(frozen=True)
class Store:
    """An S3 store: its address, and the keys of each secret."""

    address: str
    keys: dict[str, dict[str, str]]

    def client(self, secret: str) -> Any:
        """A client with the keys of `secret`."""
        return _client("s3", self.address, self.keys[secret])


def _client(service: str, address: str, keys: dict[str, str]) -> Any:
    return pytest.importorskip("boto3").client(
        service, endpoint_url=address, region_name="us-east-1", aws_access_key_id=keys["access-key-id"],
        aws_secret_access_key=keys["secret-access-key"])


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """An S3 store on loopback with a bucket for artifacts and one for backups, each with a key for it alone."""
    server = pytest.importorskip("moto.server", reason="pip install 'moto[server]'")
    threaded = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    address = f"http://{host}:{port}"
    root, keys = {"access-key-id": "root", "secret-access-key": "root"}, {}
    for secret, bucket in BUCKETS.items():
        _client("s3", address, root).create_bucket(Bucket=bucket)
        users = _client("iam", address, root)
        users.create_user(UserName=secret)
        statement = {"Effect": "Allow", "Action": "s3:*",
                     "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
        users.put_user_policy(UserName=secret, PolicyName="own", PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [statement]}))
        made = users.create_access_key(UserName=secret)["AccessKey"]
        keys[secret] = {"access-key-id": made["AccessKeyId"], "secret-access-key": made["SecretAccessKey"]}
    # From now on every request is checked.
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset-auth", data=b"0", method="POST",
                                                  headers={"Content-Type": "text/plain"})).close()
    yield Store(address, keys)
    threaded.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def cluster(image: images.Image, store: Store, certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The overlay dev, with this store's address."""
    for port in (5000, 5432):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"something else answers at port {port} of this machine")
    objects = render("dev")
    settings = next(found for found in objects if found["metadata"]["name"].startswith("mlflow-settings"))
    settings["data"] |= {"MLFLOW_S3_ENDPOINT_URL": store.address, "BACKUP_S3_ENDPOINT_URL": store.address}
    folder = tmp_path_factory.mktemp("pods")
    for parent in [folder, *folder.parents][:3]:
        parent.chmod(0o755)  # containers run as somebody else
    postgres = next(found for found in objects if found["kind"] == "StatefulSet")["spec"]["template"]["spec"][
        "containers"][0]["image"]
    secrets = {"mlflow-database": {"username": "mlflow", "password": "secret of the database",
                                   "ca.crt": (certificates / "ca.crt").read_text()},
               "mlflow-admin": {"username": ADMIN, "password": PASSWORD, "flask-secret-key": "f" * 32},
               "mlflow-tls": _pair(certificates, "mlflow"), "postgres-tls": _pair(certificates, "postgres"),
               **store.keys}
    return Cluster(objects, secrets, {"parapet:cpu": image.tag, postgres: engine.postgres_image(postgres)}, folder)


def _pair(folder: Path, name: str) -> dict[str, str]:
    return {"tls.crt": (folder / f"{name}.crt").read_text(), "tls.key": (folder / f"{name}.key").read_text()}


@pytest.fixture(autouse=True)
def _authority(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What clients trust, as pipelines/cluster.yaml has it with mlflow_ca."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificates / "ca.crt"))


def log_in(monkeypatch: pytest.MonkeyPatch, name: str | None, password: str = "") -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    if name is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


class Story:
    """What a model package needs to know of a story: an experiment that the server keeps the artifacts of."""

    experiment, artifact_root = "parapet", None


def test_only_who_has_an_account_gets_in_and_a_backup_brings_everything_back(
        cluster: Cluster, store: Store, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = MlflowRegistry(URI, "shop")
    with cluster.running("StatefulSet", "postgres"):
        _the_database_asks_for_tls_and_shows_who_it_is(cluster)
        with cluster.running("Deployment", "mlflow"):
            # without TLS, and without knowing the authority
            with pytest.raises((http.client.HTTPException, OSError)):
                urllib.request.urlopen(f"{URI.replace('https', 'http')}/health", timeout=10)
            with monkeypatch.context() as nobody:
                nobody.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(made(tmp_path / "renewed") / "ca.crt"))
                assert "its certificate is not trusted (" in str(unreachable(URI))
            # nobody, and somebody who guesses
            for name, password in ((None, ""), (ADMIN, "guessed")):
                log_in(monkeypatch, name, password)
                with pytest.raises(InputError, match=r"refuses the credentials \(401\); set MLFLOW_TRACKING_USERNAME"):
                    registry.create_model()
            # the administrator: a run with an artifact, and a model
            log_in(monkeypatch, ADMIN, PASSWORD)
            client = connect(URI)
            experiment = client.create_experiment("parapet")
            run = client.create_run(experiment).info.run_id
            client.log_metric(run, "robust_accuracy", 0.5)
            client.log_text(run, "the report", "report.txt")
            registry.create_model()
            version = register(registry, tiny_models.package(tmp_path, 1.0, Story, run), {"eps": "0.2"}, "the first")
            registry.move_champion(version.number)
            assert client.get_model_version("shop", "1").source.startswith("models:/")
            _runs_and_models_are_their_makers_and_of_whom_they_are_granted_to(client, experiment, run, monkeypatch)
            log_in(monkeypatch, ADMIN, PASSWORD)
            # a certificate that was renewed makes the kubelet start the server anew
            assert cluster.probe("Deployment", "mlflow", "livenessProbe").returncode == 0
            cluster.change_secret("mlflow", "mlflow-tls", _pair(tmp_path / "renewed", "mlflow"))
            probed = cluster.probe("Deployment", "mlflow", "livenessProbe")
            assert probed.returncode == 1 and "is not the one that is served" in probed.stderr
            cluster.change_secret("mlflow", "mlflow-tls", _pair(certificates, "mlflow"))
            assert cluster.probe("Deployment", "mlflow", "livenessProbe").returncode == 0
        said = cluster.job("mlflow-backup")
        assert "mlflow.dump, mlflow_auth.dump; 1 backups are kept" in said
        _each_key_opens_its_own_bucket(store)
        with cluster.running("Deployment", "mlflow"):
            # what is done after the backup, some of it by mistake
            client.delete_run(run)
            client.delete_registered_model("shop")
            later = client.create_run(experiment).info.run_id
        assert "is fetched" in cluster.job("mlflow-restore")
        with cluster.running("Deployment", "mlflow"):
            log_in(monkeypatch, None)
            with pytest.raises(InputError, match="refuses the credentials"):
                registry.aliases()
            log_in(monkeypatch, ADMIN, PASSWORD)
            back = client.get_run(run)
            assert back.info.lifecycle_stage == "active" and back.data.metrics == {"robust_accuracy": 0.5}
            assert [each.info.run_id for each in client.search_runs([experiment])] == [run] != [later]
            assert client.download_artifacts(run, "report.txt", str(tmp_path))
            assert (tmp_path / "report.txt").read_text() == "the report"
            champion = registry.aliased("champion")
            assert champion.tags["eps"] == "0.2"
            assert (download(registry, champion, tmp_path / "back") / "model.onnx").stat().st_size > 0


def _the_database_asks_for_tls_and_shows_who_it_is(cluster: Cluster) -> None:
    """With the database's own client, in its container."""
    def asked(**settings: str) -> str:
        words = [f"{name}={value}" for name, value in {
            "host": "127.0.0.1", "dbname": "mlflow", "user": "mlflow", "password": "'secret of the database'",
            **settings}.items()]
        done = cluster.execute("StatefulSet", "postgres", "psql", " ".join(words), "-Atc", "SELECT 1")
        return done.stdout.strip() or done.stderr
    assert "rejects connection" in asked(sslmode="disable")
    assert asked(sslmode="require") == "1"
    assert 'certificate verify failed' in asked(sslmode="verify-full", sslrootcert="/etc/postgres/pg_hba.conf") or \
        "could not read root certificate" in asked(sslmode="verify-full", sslrootcert="/etc/postgres/pg_hba.conf")


def _runs_and_models_are_their_makers_and_of_whom_they_are_granted_to(
        admin: Any, experiment: str, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account sees nothing but what it made and what k8s/accounts.py granted it."""
    from mlflow.exceptions import MlflowException

    def granted(*words: str) -> str:
        log_in(monkeypatch, ADMIN, PASSWORD)
        done = subprocess.run([sys.executable, ROOT / "k8s/accounts.py", "team", *words], input=f"{TEAM}\n", text=True,
                              capture_output=True, env={**os.environ, "MLFLOW_TRACKING_URI": URI}, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        log_in(monkeypatch, "team", TEAM)
        return done.stdout

    def refused(ask: Callable[[], Any]) -> None:
        with pytest.raises(MlflowException, match="Permission denied"):
            ask()
    granted("--model", "theirs")
    client, shop, theirs = connect(URI), MlflowRegistry(URI, "shop"), MlflowRegistry(URI, "theirs")
    for ask in (lambda: client.get_run(run), lambda: client.get_experiment(experiment),
                lambda: client.get_registered_model("shop"), lambda: client.log_metric(run, "robust_accuracy", 1.0)):
        refused(ask)
    assert [each for each in client.search_experiments() if each.experiment_id == experiment] == []
    assert {each.name for each in client.search_registered_models()} == {"theirs", "theirs.promotion-lock"}
    with pytest.raises(InputError, match=r"refuses the credentials \(403\)"):
        shop.aliases()
    assert theirs.aliases() == {} and not theirs.create_model() and MlflowRegistry.queue(theirs).exists()
    assert granted("--experiment", "parapet", "--read-only") == "team has READ on the experiment parapet\n"
    assert client.get_run(run).data.metrics == {"robust_accuracy": 0.5}
    refused(lambda: client.log_metric(run, "robust_accuracy", 1.0))


def _each_key_opens_its_own_bucket(store: Store) -> None:
    from botocore.exceptions import ClientError

    backups = store.client("mlflow-backup-store").list_objects_v2(Bucket="parapet-backups")["Contents"]
    server = store.client("mlflow-object-store")
    for ask in (lambda: server.list_objects_v2(Bucket="parapet-backups"),
                lambda: server.get_object(Bucket="parapet-backups", Key=backups[0]["Key"]),
                lambda: server.delete_object(Bucket="parapet-backups", Key=backups[0]["Key"]),
                lambda: store.client("mlflow-backup-store").list_objects_v2(Bucket="parapet-mlflow")):
        with pytest.raises(ClientError, match="AccessDenied|Forbidden|403"):
            ask()
    assert server.list_objects_v2(Bucket="parapet-mlflow")["KeyCount"] > 0


def test_a_backup_that_does_not_exist_is_told(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="there is no backup 19700101T000000Z in s3://parapet-backups/mlflow"):
        cluster.job("mlflow-restore", BACKUP="19700101T000000Z")


def test_the_keys_of_the_store_are_with_the_server_alone(cluster: Cluster) -> None:
    template = cluster.find("Deployment", "mlflow")["spec"]["template"]["spec"]
    migrate, = template["initContainers"]
    assert "AWS_SECRET_ACCESS_KEY" not in cluster._environment(migrate)
    assert "AWS_SECRET_ACCESS_KEY" in cluster._environment(template["containers"][0])
