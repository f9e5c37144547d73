"""The output folder of a search: its file names, and access that compares each file with its digest first.

It contains archive.jsonl, search.json, front_ids.json, undefended.json, candidates/<id>/ for the members of the front,
and digests.json. Where each generation is a pipeline task, it also has state.json and proposals.json in between.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from parapet.disk.files import read_json
from parapet.disk.sealed import CHECKSUM, DIGESTS, Damaged, SealedFolder, check_fields, seal_folder
from parapet.errors import InputError
from parapet.store import archive, records, results
from parapet.store.records import Proposal, Record

STATE, ARCHIVE, PROPOSALS, FRONT_IDS, UNDEFENDED, SUMMARY = (
    "state.json", "archive.jsonl", "proposals.json", "front_ids.json", "undefended.json", "search.json")
# Ids become names of folders and files.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Files by which such a folder is recognised, even where one of them is missing.
MARKS = (FRONT_IDS, ARCHIVE, UNDEFENDED)
# Patterns of the files that may be replaced (`replacement.refuse_foreign`); `search.go_on` writes cache/.
OWN = (STATE, ARCHIVE, PROPOSALS, FRONT_IDS, UNDEFENDED, SUMMARY, DIGESTS,
       *(f"candidates/*/{name}" for name in results.FILES), "cache/*")
AGAIN = "run `parapet search` again, which takes what is done from its cache"


def seal(folder: Path, search_id: str, fingerprint: str) -> None:
    """Write the digests of the finished folder, which must not change afterwards. `fingerprint` is that of the data."""
    seal_folder(folder, search_id=search_id, fingerprint=fingerprint)


class SearchFolder:
    """The folder `path` of a search. All methods raise InputError where a file is missing, damaged or not listed."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise InputError(f"{path} does not exist; {AGAIN}.")
        self._sealed = SealedFolder(path, AGAIN, {"search_id": str, "fingerprint": str})
        self.search_id: str = self._sealed.about["search_id"]
        # A checksum over all files; results that were made from the folder store it.
        self.checksum: str = self._sealed.about[CHECKSUM]

    def ids(self) -> list[str]:
        """The ids of the front's members."""
        ids: list[str] = self._held(FRONT_IDS, {"ids": list})["ids"]
        return ids

    def undefended(self) -> Record | None:
        """The record of the undefended network; None before it is measured."""
        if self.json(UNDEFENDED) is None:
            return None
        line, path = self._held(UNDEFENDED, {"status": str}), self._sealed.folder / UNDEFENDED
        archive.refuse_other_versions(path, "its record", line.get("schema_version"))
        try:
            return Record.from_json(archive.in_todays_form(line))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is damaged (its record has another form: {type(error).__name__}, {error}); "
                             f"{AGAIN}.") from None

    def proposals(self) -> list[Proposal]:
        """The proposals of the next generation; present only where each generation is a pipeline task."""
        return [Proposal.from_json(entry) for entry in self.json(PROPOSALS)]

    def all_ids(self) -> list[str]:
        """The ids of the undefended network, if it was trained, and of the front, in the order of evaluation."""
        undefended = None if self.json(UNDEFENDED) is None else self._held(UNDEFENDED, {"status": str})
        if undefended is not None and undefended["status"] == "feasible":
            return [undefended["id"], *self.ids()]
        return self.ids()

    def archive(self) -> Path:
        """The path of the archive."""
        return self._sealed.path(ARCHIVE)

    def records(self) -> list[Record]:
        """Every line of the archive; none before there is one."""
        return records.read(self._sealed.path(ARCHIVE)) if ARCHIVE in self._sealed.files else []

    def summary(self) -> dict[str, Any]:
        """The content of search.json."""
        return self._held(SUMMARY, {"objectives": list, "schema_version": int})

    def _held(self, name: str, needed: dict[str, type]) -> dict[str, Any]:
        """The JSON object in the file `name`. Raises InputError where it lacks one of the fields `needed`, or where an
        id could lead to a path outside the folder."""
        value, path = self.json(name), self._sealed.folder / name
        try:
            if not isinstance(value, dict):
                raise Damaged("it holds no JSON object")
            check_fields(value, needed)
            ids = value["ids"] if name == FRONT_IDS else [value["id"]] if name == UNDEFENDED else []
            if not all(isinstance(one, str) and _ID.fullmatch(one) for one in ids):
                raise Damaged("it holds ids that no candidate can have")
        except (Damaged, KeyError) as error:
            raise InputError(f"{path} is damaged ({error if isinstance(error, Damaged) else 'id missing'}); {AGAIN}."
                             ) from None
        return value

    def json(self, name: str) -> Any:
        """The value in the JSON file `name`."""
        return read_json(self._sealed.path(name))

    def candidates(self) -> list[str]:
        """The ids of the candidates whose files it contains."""
        return [folder.name for folder in (self._sealed.folder / "candidates").glob("*")]

    def candidate(self, name: str) -> Path:
        """The folder of a member of the front or of the undefended network; all its files are verified."""
        for file in results.FILES:
            self._sealed.path(f"candidates/{name}/{file}")
        return self._sealed.folder / "candidates" / name

    def whatever_is_of(self, name: str) -> Path:
        """The folder of a candidate, with its listed files verified; between generations some files may be missing."""
        for file in self._sealed.files:
            if file.startswith(f"candidates/{name}/"):
                self._sealed.path(file)
        return self._sealed.folder / "candidates" / name

    def digests(self, name: str) -> dict[str, str]:
        """SHA-256 (hex) of a candidate's `weights` and `onnx`, as `results.file_digests` gives them."""
        return {kind: self._sealed.files[f"candidates/{name}/{file}"]
                for kind, file in (("weights", results.WEIGHTS), ("onnx", results.ONNX))}

    def check_data(self, fingerprint: str, dataset: Path) -> None:
        """Raise InputError where the prepared data are not those of the search."""
        results.check_data(fingerprint, self._sealed.about["fingerprint"], dataset)
