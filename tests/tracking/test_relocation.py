"""A project that is moved or copied keeps its artifacts to itself, on a real database."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

from parapet.disk.files import file_digest
from parapet.errors import InputError
from parapet.registry.contents import download
from parapet.registry.mlflow_registry import MlflowRegistry
from parapet.registry.registration import register
from parapet.tracking.connection import connect
from parapet.tracking.relocation import relocate
from parapet.tracking.runs import Runs
from tests.tracking.tiny_models import package
from tests.tracking.tracked_story import Story

_FILE = "a file/text.txt"


class Project:
    """A folder with a database of MLflow's and its artifacts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.database, self.root = folder, folder / "mlflow.db", folder / "mlruns"
        self.uri = f"sqlite:///{self.database}"

    def log(self, run_id: str | None = None) -> str:
        """Keep a file with a run, a new one by default."""
        runs = Runs(connect(self.uri), "an experiment", self.root)
        run_id = run_id or runs.client.create_run(runs.experiment_id).info.run_id
        runs.client.log_text(run_id, "text", _FILE)
        return run_id

    def files(self) -> dict[str, str]:
        return {str(path): file_digest(path) for path in self.folder.rglob("*") if path.is_file()}

    def addresses(self) -> list[str]:
        with closing(sqlite3.connect(self.database)) as connection:
            return [row[0] for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri"),
                                                 ("logged_models", "artifact_location"), ("model_versions", "source"))
                    for row in connection.execute(f"SELECT {column} FROM {table}")]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """One with a run and a registered version."""
    (tmp_path / "the first").mkdir()
    made, story = Project(tmp_path / "the first"), Story(tmp_path)
    registry, story.experiment, story.artifact_root = MlflowRegistry(made.uri, "shop"), "an experiment", made.root
    run_id = made.log()
    registry.create_model()
    register(registry, package(tmp_path, 1.0, story, run_id), {}, "")
    connect(made.uri).set_tag(run_id, "first", "yes")
    return made


def check(project: Project, tmp_path: Path) -> None:
    """What was there is read, and what is new is written, in the folder where the project is now."""
    utils._artifact_repos_cache.clear()  # a process remembers where the artifacts of a run were
    client, registry = connect(project.uri), MlflowRegistry(project.uri, "shop")
    assert all(str(project.folder).replace(" ", "%20") in address or str(project.folder) in address
               for address in project.addresses())
    [run] = client.search_runs([client.get_experiment_by_name("an experiment").experiment_id], "tags.first = 'yes'")
    assert [file.path for file in client.list_artifacts(run.info.run_id, "a file")] == [_FILE]
    assert (download(registry, registry.version("1"), tmp_path / f"back {project.folder.name}") / "model.onnx").exists()
    before = set(project.files())
    project.log()
    project.log(run.info.run_id)
    [new] = [path for path in set(project.files()) - before if path.endswith(".txt")]
    assert new.startswith(str(project.root))


def test_a_project_that_was_moved_finds_its_artifacts(project: Project, tmp_path: Path) -> None:
    moved = Project(tmp_path / "the second")
    project.folder.rename(moved.folder)
    relocate(moved.database, moved.root)
    check(moved, tmp_path)
    assert not project.folder.exists()
    relocate(moved.database, moved.root)
    check(moved, tmp_path)


def test_a_copy_of_a_project_leaves_the_original_alone(project: Project, tmp_path: Path) -> None:
    before = project.files()
    copied = Project(tmp_path / "the second")
    shutil.copytree(project.folder, copied.folder)
    relocate(copied.database, copied.root)
    check(copied, tmp_path)
    relocate(project.database, project.root)
    assert project.files() == before
    check(project, tmp_path)


def test_a_database_that_was_copied_alone_is_refused(project: Project, tmp_path: Path) -> None:
    copied = Project(tmp_path / "the second")
    copied.folder.mkdir()
    shutil.copyfile(project.database, copied.database)
    with pytest.raises(InputError) as caught:
        relocate(copied.database, copied.root)
    assert str(caught.value) == (
        f"{copied.database} was copied from {project.folder} without the folder mlruns beside it, so that its runs "
        "would be read and written there; copy that folder too, or delete the file, or set MLFLOW_TRACKING_URI to the "
        "database that you mean.")


def test_artifacts_that_lie_elsewhere_on_purpose_stay_there(project: Project, tmp_path: Path) -> None:
    elsewhere = f"{(tmp_path / 'large disk').as_uri()}/mlruns"
    connect(project.uri).create_experiment("large", artifact_location=elsewhere)
    moved = Project(tmp_path / "the second")
    project.folder.rename(moved.folder)
    relocate(moved.database, moved.root)
    assert connect(moved.uri).get_experiment_by_name("large").artifact_location == elsewhere


def test_what_is_no_database_of_mlflow_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"something else")
    relocate(tmp_path / "mlflow.db", tmp_path / "mlruns")
    assert (tmp_path / "mlflow.db").read_bytes() == b"something else"
