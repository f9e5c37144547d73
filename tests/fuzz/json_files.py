"""Every JSON file of ours: the archive, and what steps, searches and the outbox leave."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from pathlib import Path
from typing import Any

from parapet import schemas
from parapet.attacks import evaluation_state
from parapet.cli import archive_text
from parapet.data import info
from parapet.disk import sealed
from parapet.disk.files import read_json
from parapet.errors import InputError
from parapet.search import journal
from parapet.search.front import front
from parapet.search.schedule import trained_from_scratch
from parapet.steps import train
from parapet.store import archive, front_file, results
from parapet.store.records import parsed
from parapet.tracking.queue import Queue
from parapet.verification import records as verification
from tests.fuzz.mutations import damaged, json_bytes, twisted
from tests.fuzz.part import Part, demand
from tests.search.archive_records import RUNGS
from tests.search.archive_records import failed_line as failed
from tests.search.archive_records import line as record

_LINE = re.compile(rb'\{"after":"([0-9a-f]{64})","sha256":"([0-9a-f]{64})","record":(\{.*\})\}')


def lines(records: list[Any]) -> bytes:
    """A journal whose checksums fit, whatever the records say."""
    found, before = [], b"0" * 64
    for value in records:
        text = json.dumps(value, sort_keys=False, separators=(",", ":")).encode("ascii")
        checksum = hashlib.sha256(before + text).hexdigest().encode()
        found.append(b'{"after":"%b","sha256":"%b","record":%b}\n' % (before, checksum, text))
        before = checksum
    return b"".join(found)


def plain(value: Any) -> bool:
    """Whether there is no NaN, no infinity and no half character in it."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (ValueError, UnicodeEncodeError):
        return False
    return True


class Archives(Part):
    """archive.jsonl: damaged lines, and records that say something else under checksums that fit."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        parent = record(rung=0)
        self.records = [parent, record(0.8, 0.6, 50_000), failed(), record(generation=1, looks=2, final=True),
                        record(0.7, 0.2, 2000, parent={"id": parent["id"], "epochs": 2, "rung": 0})]
        self.whole = lines(self.records)

    def make(self, chance: random.Random) -> bytes:
        if chance.random() < 0.4:
            content = damaged(chance, self.whole, [self.whole])
            return content[:-1] if chance.random() < 0.1 else content
        records = [*self.records]
        for _ in range(chance.choice((1, 1, 2))):
            place = chance.randrange(len(records))
            records[place] = twisted(chance, records[place])
        return lines(records[:chance.randint(1, len(records))])

    def check(self, content: bytes) -> None:
        path = self.put("archive.jsonl", content)
        records = archive.read(path)
        demand(plain(records), "a record holds NaN, infinity or half a character")
        before = b"0" * 64
        for line in content[:len(content) - archive.torn(path)].split(b"\n")[:-1]:
            match = _LINE.fullmatch(line)
            demand(match is not None and match[1] == before, "a line was accepted that follows on nothing")
            demand(hashlib.sha256(match[1] + match[3]).hexdigest().encode() == match[2], "a checksum does not fit")
            before = match[2]
        found = verification.verify(records, self.folder / "no-cache")
        bad = [value for value in records if schemas.problem("archive_record", value) is not None]
        demand(bool(found.problems) or not bad, "verify says nothing of a record that does not meet its schema")
        demand(all(text.isprintable() and len(text) < 1200 for text in found.problems), "a problem is told at length")
        if not bad:
            chosen = parsed(path, archive.latest(records))
            front(trained_from_scratch(chosen), ("clean_error", "robust_error", "flops"))
            for value in chosen:
                demand(all(isinstance(cell, str) for cell in archive_text.row(value)), "a cell of the table is no text")


class JsonFiles(Part):
    """The other files, each by the function that its reader calls."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from parapet.training.recipes import load_recipe

        recipe = load_recipe("digits")
        self.identity = {"recipe": "digits", "genome": recipe.genome.to_dict(), "threat": {"norm": "linf", "eps": 0.2},
                         "seed": 0}
        block = record()["validation"]
        self.values: dict[str, Any] = {
            "dataset.json": {"schema_version": info.SCHEMA_VERSION, "name": "digits", "classes": list("0123456789"),
                             "levels": 16, "image_shape": [1, 8, 8], "images": {"train": 3, "validation": 2, "test": 2},
                             "mean": [0.3], "std": [0.4], "fingerprint": "0" * 64, "files": {}},
            "train.json": {"schema_version": train.SCHEMA_VERSION, "status": "done", "reason": None,
                           "run": self.identity,
                           "curves": [{"epoch": 1, "loss": 0.5}], "best_epoch": 1, "validation": block},
            "training.json": {"schema_version": results.SCHEMA_VERSION, "id": "a" * 12, "key": "k" * 64,
                              "status": "done", "reason": None, "curves": [], "rungs": list(RUNGS)},
            "state.json": {"course": {"generation": 1, "population": []}, "seconds": 1.0, "device_seconds": 2.0,
                           "lines": 0, "last": None, "search_id": folder.name},
            "00000001+search+s1+0123456789abcdef.json": {
                "schema_version": 1, "key": "search+s1", "digest": "0123456789abcdef" * 4, "created": 1.5,
                "kind": "search", "search_id": "s1", "body": {"name": "x", "params": {}, "tags": {}, "artifacts": {}}},
            "front.json": {"schema_version": front_file.SCHEMA_VERSION, "threat": {"norm": "linf", "eps": 0.2},
                           "candidates": []},
            "evaluation.json": {"attack_version": 4, "norm": "linf", "eps": 0.2, "attacks": {"fgsm": {"steps": 1}}},
            "any.json": record(),
        }

    def make(self, chance: random.Random) -> bytes:
        """The name of the file on the first line, and its content."""
        name = chance.choice(list(self.values))
        value, way = self.values[name], chance.random()
        if way < 0.3:
            content = damaged(chance, json.dumps(value, indent=1).encode())
        else:
            odd = twisted(chance, value)
            if isinstance(odd, dict) and chance.random() < 0.7:
                odd.pop(sealed.CHECKSUM, None)
                text = json.dumps(odd, sort_keys=True, separators=(",", ":")).encode("ascii")
                odd[sealed.CHECKSUM] = hashlib.sha256(text).hexdigest()
            content = json_bytes(odd)
            if way > 0.9:
                content = damaged(chance, content)
        return name.encode() + b"\n" + content

    def check(self, content: bytes) -> None:
        name, _, text = content.partition(b"\n")
        for old in (*self.folder.glob("*.json"), *self.folder.glob("queue.db*")):
            old.unlink()
        path = self.put(name.decode(), text)
        found = self._read(path)
        if found is not None:
            demand(plain(found), "NaN, infinity or half a character was accepted")
            demand(not isinstance(found, float) or math.isfinite(found), "no number was accepted")

    def _read(self, path: Path) -> Any:
        if path.name == "dataset.json":
            value = info.read_info(self.folder)
            demand(isinstance(value["classes"], list) and isinstance(value["fingerprint"], str), "an odd description")
            return value
        if path.name == "train.json":
            value = train.check_folder(self.folder, self.identity)
            demand(value is None or {key: value["run"].get(key) for key in self.identity} == self.identity,
                   "another run was accepted")
            return value
        if path.name == "training.json":
            value = results.done(path, "k" * 64)
            demand(value is None or value["key"] == "k" * 64, "another key was accepted")
            return value
        if path.name == "state.json":
            return journal._state(self.folder, [])
        if path.name.startswith("00000001+"):
            events, complaints = Queue(self.folder).events()
            demand(all(line.isprintable() and len(line) < 1200 for line in complaints), "a complaint at length")
            return [event.body for event in events]
        if path.name == "front.json":
            value = front_file.read(path)
            demand(schemas.problem("front", value) is None, "a front was accepted that does not meet its schema")
            return value
        if path.name == "evaluation.json":
            try:
                return evaluation_state._manifest(self.folder)
            except InputError:
                raise
        return read_json(path)
