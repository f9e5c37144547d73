"""What `verify` finds wrong with records and their files: one line each, and nothing where all is well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parapet import schemas
from parapet.disk import sealed
from parapet.genome import Genome
from parapet.models import save
from parapet.models.network import Network
from parapet.verification.records import verify
from tests.search.archive_records import failed_line as failed
from tests.search.archive_records import line as record

SMALL = Genome(width=4, depth=1, activation="silu").canonical()


def _folder(cache: Path, entry: dict[str, Any]) -> Path:
    return cache / "candidates" / entry["training_key"][:32]


@pytest.fixture
def trained(tmp_path: Path) -> dict[str, Any]:
    """A record whose training and weights are in the cache."""
    entry = record(genome=SMALL)
    folder = _folder(tmp_path, entry)
    folder.mkdir(parents=True)
    save(Network(SMALL, (1, 8, 8), 10), folder / "model.safetensors")
    sealed.write(folder / "training.json", {"schema_version": 5, "key": entry["training_key"],
                                            "digests": sealed.digests(folder, ["model.safetensors"])})
    return entry


def _problems(tmp_path: Path, *records: dict[str, Any]) -> list[str]:
    return verify(records, tmp_path).problems


def test_records_of_every_kind_meet_the_schema() -> None:
    parent = record(rung=0, latency_ms=None)
    origin = {"training_key": parent["training_key"], "kind": "promoted", "epochs": 2}
    for entry in (parent, failed(), record(parent=origin),
                  record(repeat=2, looks=5), record(status="infeasible", reason="too slow", violation=0.4)):
        schemas.validate("archive_record", entry)


def test_what_is_right_is_counted_and_no_more(tmp_path: Path, trained: dict[str, Any]) -> None:
    told: list[int] = []
    records = [trained, failed(), {**trained, "looks": 2}, record(flops=5_000)]
    found = verify(records, tmp_path, told.append)
    assert (found.records, found.trainings, found.weights, found.problems) == (4, 1, 1, [])
    assert told == [1, 2, 3, 4]
    assert verify(records, tmp_path / "elsewhere").trainings == 0


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"violation": -1.0}, "line 1 (ID): does not meet the schema at $.violation: -1.0 is less than the minimum of 0"),
    ({"schema_version": 3}, "does not meet the schema at $.schema_version: 5 was expected"),
    ({"looks": 0}, "does not meet the schema at $.looks: 0 is less than the minimum of 1"),
    ({"fidelity": {"epochs": 3, "data_share": 1.0}}, "does not meet the schema at $.fidelity: "),
    ({"parent": {"training_key": "f" * 64, "kind": "stolen"}}, "at $.parent.kind: 'stolen' is not one of ['promoted'"),
    ({"surprise": 1}, "('surprise' was unexpected)"),
    ({"training_key": "f" * 64}, "the id is not the beginning of the training key ffffffffffff..."),
    ({"genome": {**SMALL.to_dict(), "clean_share": 0.5}},
     "the genome is not canonical: clean_share is 0.5 and has to be 0.0"),
    ({"genome": {**SMALL.to_dict(), "width": 4000}},
     "does not meet the schema at $.genome.width: 4000 is greater than the maximum of 1024"),
])
def test_what_is_wrong_with_a_record(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    entry = {**record(genome=SMALL), **changes}
    [problem] = _problems(tmp_path, entry)
    assert sentence.replace("ID", entry["id"]) in problem and "\n" not in problem


def test_the_same_look_at_the_same_candidate_twice(tmp_path: Path) -> None:
    entry = record()
    [problem] = _problems(tmp_path, entry, {**entry, "looks": 2}, record(flops=7), entry)
    assert problem == f"line 4 ({entry['id']}): line 1 has the same id and as many looks (1)"


def test_files_of_another_training(tmp_path: Path, trained: dict[str, Any]) -> None:
    folder = _folder(tmp_path, trained)
    sealed.write(folder / "training.json", {**sealed.look(folder / "training.json"), "key": "a" * 64})
    save(Network(Genome(width=8).canonical(), (1, 8, 8), 10), folder / "model.safetensors")
    changed, training, weights = _problems(tmp_path, trained)
    assert changed.startswith(f"line 1 ({trained['id']}): {folder}: model.safetensors is not what was written: ")
    assert training == f"line 1 ({trained['id']}): {folder}/training.json is of another training, {'a' * 64}"
    assert weights.endswith(f"model.safetensors holds another genome: {Genome(width=8).canonical()}")


@pytest.mark.parametrize(("name", "content", "sentence"), [
    ("training.json", b"{", "training.json is damaged (it is no JSON)"),
    ("training.json", b"[]", "training.json is damaged (it holds no JSON object)"),
    ("training.json", b"{}", "training.json is damaged (it has no checksum)"),
    ("model.safetensors", b"torn", "model.safetensors is no weights file of Parapet ("),
])
def test_files_that_cannot_be_read(tmp_path: Path, trained: dict[str, Any], name: str, content: bytes,
                                   sentence: str) -> None:
    (_folder(tmp_path, trained) / name).write_bytes(content)
    problems = _problems(tmp_path, trained)
    assert len(problems) == (2 if name == "model.safetensors" else 1)
    assert sentence in problems[-1] and "\n" not in problems[-1]


def test_weights_that_do_not_fit_their_own_genome(tmp_path: Path, trained: dict[str, Any]) -> None:
    network = Network(SMALL, (1, 8, 8), 10)
    network.genome = Genome(width=16, depth=1, activation="silu").canonical()
    save(network, _folder(tmp_path, trained) / "model.safetensors")
    _, problem = _problems(tmp_path, trained)
    assert "model.safetensors is no weights file of Parapet (" in problem
    assert "and has to be float32 of shape 16x" in problem
    assert len(problem) < 500


def test_weights_that_memory_did_not_suffice_for_are_not_called_damaged(
        tmp_path: Path, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(path: Path) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")

    _folder(tmp_path, trained)
    monkeypatch.setattr("parapet.models.load", no_memory)
    with pytest.raises(RuntimeError, match="not enough memory"):
        _problems(tmp_path, trained)
