"""MLflow from the manifests, in containers, before PostgreSQL and an S3 store: accounts, a run, a model, a backup that
is put back."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from parapet.errors import InputError
from parapet.tracking.connection import connect
from parapet.tracking.registration import download, register
from parapet.tracking.registry import Registry
from pipelines import images
from tests.containers import engine
from tests.containers.pods import Cluster
from tests.k8s.test_manifests import render
from tests.tracking import tiny_models

ADMIN, PASSWORD = "admin", "a long password for the administrator"
SECRETS = {"mlflow-database": {"username": "mlflow", "password": "secret of the database"},
           "mlflow-admin": {"username": ADMIN, "password": PASSWORD, "flask-secret-key": "f" * 32},
           "mlflow-object-store": {"access-key-id": "key", "secret-access-key": "secret"}}
URI, BUCKET = "http://127.0.0.1:5000", "parapet-mlflow"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(engine.missing() is not None, reason=str(engine.missing())),
              pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the overlays")]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """An S3 store on loopback, with the bucket; its address."""
    server = pytest.importorskip("moto.server", reason="pip install 'moto[server]'")
    boto3 = pytest.importorskip("boto3")
    threaded = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address, aws_access_key_id="key", aws_secret_access_key="secret",
                 region_name="us-east-1").create_bucket(Bucket=BUCKET)
    yield address
    threaded.stop()


@pytest.fixture(scope="module")
def cluster(image: images.Image, store: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The overlay dev, with this store's address."""
    for port in (5000, 5432):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"something else answers at port {port} of this machine")
    objects = render("dev")
    settings = next(found for found in objects if found["metadata"]["name"].startswith("mlflow-settings"))
    settings["data"]["MLFLOW_S3_ENDPOINT_URL"] = store
    folder = tmp_path_factory.mktemp("pods")
    for parent in [folder, *folder.parents][:3]:
        parent.chmod(0o755)  # containers run as somebody else
    postgres = next(found for found in objects if found["kind"] == "StatefulSet")["spec"]["template"]["spec"][
        "containers"][0]["image"]
    return Cluster(objects, SECRETS, {"parapet:cpu": image.tag, postgres: engine.postgres_image(postgres)}, folder)


def log_in(monkeypatch: pytest.MonkeyPatch, name: str | None, password: str = "") -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    if name is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


class Story:
    """What a shipment needs to know of a story: an experiment that the server keeps the artifacts of."""

    experiment, artifact_root = "parapet", None


def test_only_who_has_an_account_gets_in_and_a_backup_brings_everything_back(
        cluster: Cluster, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(URI, "shop")
    with cluster.running("StatefulSet", "postgres"):
        with cluster.running("Deployment", "mlflow"):
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
            made = register(registry, tiny_models.shipment(tmp_path, 1.0, Story, run), {"eps": "0.2"}, "the first")
            registry.move_champion(made.number)
            assert client.get_model_version("shop", "1").source.startswith("models:/")
        said = cluster.job("mlflow-backup")
        assert "mlflow.dump, mlflow_auth.dump; 1 backups are kept" in said
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


def test_a_backup_that_does_not_exist_is_told(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="there is no backup 19700101T000000Z in s3://parapet-mlflow/backups"):
        cluster.job("mlflow-restore", BACKUP="19700101T000000Z")


def test_the_keys_of_the_store_are_with_the_server_alone(cluster: Cluster) -> None:
    template = cluster.find("Deployment", "mlflow")["spec"]["template"]["spec"]
    migrate, = template["initContainers"]
    assert "AWS_SECRET_ACCESS_KEY" not in cluster._environment(migrate)
    assert "AWS_SECRET_ACCESS_KEY" in cluster._environment(template["containers"][0])
