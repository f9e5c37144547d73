"""The folder of a search: files under digests that fit, but of another form, are told in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parapet.disk.files import write_json
from parapet.errors import InputError
from parapet.store import search_folder
from parapet.store.search_folder import SearchFolder
from tests.search.archive_records import line

GOOD = {"front_ids.json": {"ids": ["0123456789ab"]}, "undefended.json": {"id": "0123456789ab", "status": "feasible"},
        "search.json": {"objectives": ["flops"], "schema_version": 1}}


def _folder(path: Path, **files: Any) -> SearchFolder:
    for name, value in {**GOOD, **{f"{name}.json": value for name, value in files.items()}}.items():
        write_json(path / name, value)
    search_folder.seal(path, "0" * 12, "f" * 64)
    return SearchFolder(path)


def test_what_it_holds(tmp_path: Path) -> None:
    found = _folder(tmp_path)
    assert found.all_ids() == ["0123456789ab"] * 2 and found.summary() == GOOD["search.json"]
    assert _folder(tmp_path, undefended=None).all_ids() == ["0123456789ab"]


@pytest.mark.parametrize("ids", [[1], {}, None, 7, {"ids": None}, {"ids": [1, 2]}, {"ids": ["../x"]}, {"ids": ["a\0b"]},
                                 {"ids": ["a" * 65]}, {"ids": ["/etc/passwd"]}])
def test_ids_that_are_none_are_damage(tmp_path: Path, ids: Any) -> None:
    with pytest.raises(InputError, match="front_ids.json is damaged .*; run `parapet search` again"):
        _folder(tmp_path, front_ids=ids).ids()


@pytest.mark.parametrize("record", [[1], {}, 7, {"id": 7, "status": "feasible"}, {"id": "../x", "status": "feasible"},
                                    {"status": "feasible"}, {"id": "0123456789ab"}])
def test_an_undefended_network_that_is_none_is_damage(tmp_path: Path, record: Any) -> None:
    with pytest.raises(InputError, match="undefended.json is damaged .*; run `parapet search` again"):
        _folder(tmp_path, undefended=record).all_ids()


def test_an_undefended_network_of_an_older_version_is_read_in_todays_form(tmp_path: Path) -> None:
    today = line(id="0123456789ab")
    block = {**today["validation"], "attacks": {"fgsm": 0.6, "square": 0.5}}
    found = _folder(tmp_path, undefended={**today, "schema_version": 4, "validation": block}).undefended()
    assert found.validation.attacks == {"fgsm": {"alone": 0.6, "left": None}, "square": {"alone": None, "left": 0.5}}
    for record, said in (({**today, "schema_version": 6}, "undefended.json has schema version 6 in its record, and "),
                         ({key: today[key] for key in ("schema_version", "id", "status")},
                          "undefended.json is damaged .its record has another form: KeyError, .*; run `parapet")):
        with pytest.raises(InputError, match=said):
            _folder(tmp_path, undefended=record).undefended()


@pytest.mark.parametrize("summary", [[], {}, 7, None, {"objectives": "flops", "schema_version": 1}])
def test_a_summary_of_another_form_is_damage(tmp_path: Path, summary: Any) -> None:
    with pytest.raises(InputError, match="search.json is damaged .*; run `parapet search` again"):
        _folder(tmp_path, search=summary).summary()
