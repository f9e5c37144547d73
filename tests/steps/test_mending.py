"""What is damaged in the candidate cache is found, told and measured again; the front stays the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from parapet.config import Params, parse
from parapet.disk import sealed
from parapet.disk.files import file_digest, read_json
from parapet.processes.pool import TaskResult
from parapet.search.front import front
from parapet.steps import measure, search
from parapet.steps.mending import Mender
from parapet.store import records as store
from parapet.store import results
from parapet.store.records import Proposal, Record
from parapet.tracking import NullTracker
from tests.damage import damaged
from tests.fronts import identity
from tests.search.archive_records import line
from tests.search.archive_records import record as made_up
from tests.steps.tiny import TINY

PARAMS = parse(Params, TINY)
NAMES = ("clean_error", "robust_error", "flops")


@pytest.fixture
def here(undisturbed: Path, tmp_path: Path) -> Path:
    """A finished search of its own: search/, cache/."""
    for name in ("search", "cache"):
        shutil.copytree(undisturbed / name, tmp_path / name)
    return tmp_path


def _again(here: Path, dataset: Path) -> None:
    search.run(PARAMS, dataset, here / "search", here / "cache", devices=["cpu"], tracker=NullTracker())


def _members(here: Path) -> list[Record]:
    return front(store.read(here / "search/archive.jsonl"), NAMES)


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_damaged_files_of_the_front_are_measured_again_and_told(here: Path, digits_folder: Path, capsys) -> None:
    before, member = (here / "search/archive.jsonl").read_bytes(), _members(here)[0]
    undefended = read_json(here / "search/undefended.json")
    trained, attacked, exported = measure.folders(here / "cache", member.training_key, PARAMS)
    weights, kept = file_digest(trained / "model.safetensors"), read_json(attacked / "attack_evaluation.json")
    _flip(trained / "model.safetensors", -3)
    (exported / "model.onnx").unlink()
    _, attacked_too, _ = measure.folders(here / "cache", undefended["training_key"], PARAMS)
    (attacked_too / "adversarial.safetensors").write_bytes(b"")
    _again(here, digits_folder)
    told = capsys.readouterr().out
    assert f"{trained}: model.safetensors is not what was written: its SHA-256 is " in told
    assert "; it is measured again" in told and "adversarial.safetensors is not what was written" in told
    # On the CPU the same training gives the same weights, so that what was known of them still holds.
    assert file_digest(trained / "model.safetensors") == weights
    assert read_json(attacked / "attack_evaluation.json") == kept
    assert (here / "search/archive.jsonl").read_bytes() == before
    assert results.done(trained / "training.json", member.training_key)
    _again(here, digits_folder)
    assert "measured again" not in capsys.readouterr().out


def test_a_digit_that_was_flipped_in_a_result_is_found(here: Path, digits_folder: Path, capsys) -> None:
    member = _members(here)[-1]
    folder, _, _ = measure.folders(here / "cache", member.training_key, PARAMS)
    path = folder / "training.json"
    flops = json.dumps(member.flops)
    path.write_text(path.read_text().replace(f'"flops": {flops}', f'"flops": {flops[:-1]}{(int(flops[-1]) + 1) % 10}'))
    expected = identity(_members(here))
    _again(here, digits_folder)
    assert f"{path} is damaged (its checksum does not fit); what it was about is measured again" in \
        capsys.readouterr().out
    assert identity(_members(here)) == expected and sealed.look(path)["flops"] == member.flops


def test_the_undefended_network_of_another_search_is_not_taken(here: Path, digits_folder: Path) -> None:
    path, = (here / "cache/searches").glob("*/undefended.json")
    own = sealed.look(path)
    sealed.write(path, {**own, "search_id": "0" * 12, "validation": {**own["validation"], "robust_accuracy": 1.0}})
    _again(here, digits_folder)
    assert read_json(here / "search/undefended.json")["validation"] == own["validation"]


def test_a_parent_whose_weights_are_damaged_is_trained_again_before_its_child(tmp_path: Path) -> None:
    def record(name: str, parent: str | None) -> Record:
        return made_up(id=name * 12, training_key=name * 64,
                       parent=parent and {"training_key": parent * 64, "kind": "promoted", "epochs": 1})

    records = [record("a", None), record("b", "a"), record("c", "b")]
    for entry in records[:2]:
        folder = measure.folder_of(tmp_path, entry.training_key)
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(entry.id.encode())
        results.write(folder / "training.json", candidate=entry.id, key=entry.training_key,
                      beside=["model.safetensors"])
    asked: list[str] = []
    told: list[str] = []

    def measured(proposals: list[Proposal]) -> list[TaskResult]:
        asked.extend(proposal.id for proposal in proposals)
        return [TaskResult(line(id=proposal.id)) for proposal in proposals]

    mender = Mender(PARAMS, {"fingerprint": "f"}, tmp_path, measured, told.append)
    child = [records[2].proposal("f")]
    mender.parents(child, records)
    assert asked == [] and told == []
    with damaged(measure.folder_of(tmp_path, "b" * 64) / "model.safetensors", "halved"):
        mender.parents(child, records)
        assert asked == ["b" * 12] and len(told) == 1
        (measure.folder_of(tmp_path, "a" * 64) / "model.safetensors").unlink()
        mender.parents(child, records)
    assert asked == ["b" * 12, "a" * 12, "b" * 12]


def test_a_result_of_an_older_version_is_not_called_damaged(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "training.json").write_text(json.dumps({"schema_version": 4, "key": "k", "id": "i"}))
    assert results.done(tmp_path / "training.json", "k", told.append) is None and told == []
    assert results.trained(tmp_path, registered=True)["id"] == "i"
