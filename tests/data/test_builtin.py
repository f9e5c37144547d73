"""The embedded default: data.dvc pins it and datastore/ serves it without a network."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from parapet.data import digits, load

REPOSITORY = Path(__file__).parents[2]


def pinned() -> dict[str, str]:
    """MD5 by path below data/, as data.dvc pins them and datastore/ serves them."""
    out, = yaml.safe_load((REPOSITORY / "data.dvc").read_text())["outs"]
    assert out["path"] == "data"
    listing = REPOSITORY / "datastore/files/md5" / out["md5"][:2] / out["md5"][2:]
    return {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text())}


def test_data_dvc_pins_what_scikit_learn_carries(tmp_path):
    digits.export(tmp_path / "digits")
    exported = {path.relative_to(tmp_path).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
                for path in tmp_path.rglob("*") if path.is_file()}
    mine = {path: digest for path, digest in pinned().items() if path.startswith("digits/")}
    assert mine == exported


def test_datastore_holds_every_pinned_file():
    for digest in pinned().values():
        path = REPOSITORY / "datastore/files/md5" / digest[:2] / digest[2:]
        assert hashlib.md5(path.read_bytes()).hexdigest() == digest


def test_pull_on_a_fresh_clone(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("needs git")
    clone = tmp_path / "clone"
    (clone / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", "data.dvc"):
        shutil.copy(REPOSITORY / name, clone / name)
    shutil.copytree(REPOSITORY / "datastore", clone / "datastore")
    subprocess.run(["git", "init", "--quiet"], cwd=clone, check=True)
    result = subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet"], cwd=clone, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(load("digits", clone / "data").labels) == 1797
