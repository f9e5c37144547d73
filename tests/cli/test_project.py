"""What outlives an experiment of DVC's lies in the project that it is a copy of."""

from __future__ import annotations

from pathlib import Path

import pytest

from parapet.cli.parser import parse_arguments
from parapet.cli.project import is_experiment, lasting, project
from parapet.cli.tracking import gateway, page, registry_uri
from parapet.errors import InputError


@pytest.mark.parametrize(("here", "there"), [
    ("shop", "shop"), ("shop/.dvc/tmp/exps/tmpabc", "shop"), ("shop/.dvc/tmp/exps/standalone/tmpabc", "shop"),
    ("repo/shop/.dvc/tmp/exps/tmpabc/shop", "repo/shop"), ("shop/.dvc/tmp/exps", "shop/.dvc/tmp/exps")])
def test_the_project_of_a_temporary_copy_is_its_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str,
                                                         there: str) -> None:
    (tmp_path / here).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / here)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert project() == tmp_path / there and is_experiment() == (here != there)
    cache = Path(".parapet") if here == there else tmp_path / there / ".parapet"
    assert lasting(".parapet") == parse_arguments(["search"]).cache == cache
    assert lasting("/elsewhere") == Path("/elsewhere")
    assert parse_arguments(["search"]).out == Path("artifacts/search")
    assert gateway().uri == f"sqlite:///{tmp_path / there}/mlflow.db"
    assert gateway().artifacts == tmp_path / there / "mlruns"


def test_the_address_of_mlflow_is_taken_as_it_was_meant_or_refused(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://alice:hunter2@mlflow:5000\n")  # as files of secrets end
    assert gateway().uri == "http://alice:hunter2@mlflow:5000"
    assert gateway().page == page() == "http://mlflow:5000"
    for wrong in ("http://alice:hun ter2@mlflow:5000", "http://alice:hun[ter2@mlflow", "sqlite:///:memory:", "foo"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wrong)
        for asked in (gateway, registry_uri):
            with pytest.raises(InputError) as caught:
                asked()
            assert "ter2" not in str(caught.value)
        assert "ter2" not in page()
    assert not list(tmp_path.iterdir())
