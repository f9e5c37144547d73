"""The folder of a search: what is called how in it, and each file compared with its digest before it is read.

It holds archive.jsonl, search.json, front_ids.json, undefended.json, candidates/<id>/ for the members of the front, and
digests.json; between generations that are tasks also state.json and proposals.json.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from parapet.disk.files import read_json
from parapet.disk.sealed import CHECKSUM, DIGESTS, Damaged, SealedFolder, check_fields, seal_folder
from parapet.errors import InputError
from parapet.store import records, results
from parapet.store.records import Proposal, Record

STATE, ARCHIVE, PROPOSALS, FRONT_IDS, UNDEFENDED, SUMMARY = (
    "state.json", "archive.jsonl", "proposals.json", "front_ids.json", "undefended.json", "search.json")
# It names folders and files.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What tells such a folder, also one that lost a file.
MARKS = (FRONT_IDS, ARCHIVE, UNDEFENDED)
# What may be replaced with the folder, as `replacement.refuse_foreign` takes it; cache/ is what `search.go_on` leaves.
OWN = (STATE, ARCHIVE, PROPOSALS, FRONT_IDS, UNDEFENDED, SUMMARY, DIGESTS,
       *(f"candidates/*/{name}" for name in results.FILES), "cache/*")
AGAIN = "run `parapet search` again, which takes what is done from its cache"


def seal(folder: Path, search_id: str, fingerprint: str) -> None:
    """Finish the folder: nothing in it changes any more. `fingerprint` is that of the data."""
    seal_folder(folder, search_id=search_id, fingerprint=fingerprint)


class SearchFolder:
    """The folder `path` of a search. Everything raises InputError where a file is missing, damaged or not of it."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise InputError(f"{path} does not exist; {AGAIN}.")
        self._sealed = SealedFolder(path, AGAIN, {"search_id": str, "fingerprint": str})
        self.search_id: str = self._sealed.about["search_id"]
        # Of everything in it: what was made from the folder carries it.
        self.checksum: str = self._sealed.about[CHECKSUM]

    def ids(self) -> list[str]:
        """Of the front."""
        ids: list[str] = self._held(FRONT_IDS, {"ids": list})["ids"]
        return ids

    def undefended(self) -> Record | None:
        """The record of the undefended network; None before it is measured."""
        if self.json(UNDEFENDED) is None:
            return None
        return records.parsed(self._sealed.folder / UNDEFENDED, [self._held(UNDEFENDED, {"status": str})])[0]

    def proposals(self) -> list[Proposal]:
        """What the generation that follows consists of; between generations that are tasks."""
        return [Proposal.from_json(entry) for entry in self.json(PROPOSALS)]

    def all_ids(self) -> list[str]:
        """The undefended network, if it was trained, and the front, in the order in which they are evaluated."""
        undefended = self.undefended()
        if undefended is not None and undefended.is_feasible:
            return [undefended.id, *self.ids()]
        return self.ids()

    def archive(self) -> Path:
        """The path of the archive."""
        return self._sealed.path(ARCHIVE)

    def records(self) -> list[Record]:
        """Every line of the archive; none before there is one."""
        return records.read(self._sealed.path(ARCHIVE)) if ARCHIVE in self._sealed.files else []

    def summary(self) -> dict[str, Any]:
        """search.json."""
        return self._held(SUMMARY, {"objectives": list, "schema_version": int})

    def _held(self, name: str, needed: dict[str, type]) -> dict[str, Any]:
        """A JSON object with these fields. InputError where it is none, or where an id could lead out of the folder."""
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
        """What the JSON file called `name` holds."""
        return read_json(self._sealed.path(name))

    def candidates(self) -> list[str]:
        """Ids of the candidates of which it holds files."""
        return [folder.name for folder in (self._sealed.folder / "candidates").glob("*")]

    def candidate(self, name: str) -> Path:
        """The folder of a member of the front, or of the undefended network, with all its files."""
        for file in results.FILES:
            self._sealed.path(f"candidates/{name}/{file}")
        return self._sealed.folder / "candidates" / name

    def whatever_is_of(self, name: str) -> Path:
        """The folder of a candidate with the files that it has; between generations it may lack some."""
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
