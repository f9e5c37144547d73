"""JSON that is not plain is refused with one short reason, before anything comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parapet.disk.files import read_json, write_json
from parapet.disk.plain_json import DEEPEST, NotPlain, loads
from parapet.errors import InputError


def test_what_is_plain_is_read() -> None:
    value = {"a": [1, -2.5, 1e-300, True, None, "ü \U0001f600"], "b": {"a": {}}, "n": 12345678901234567890}
    assert loads(json.dumps(value)) == loads(json.dumps(value).encode()) == value
    assert loads("[" * DEEPEST + "]" * DEEPEST) is not None
    # As the outcomes of an evaluation are written, one digit an image.
    assert loads(json.dumps({"outcomes": "01" * 500, "n": 3, "share": 0.5})) == {"outcomes": "01" * 500, "n": 3,
                                                                                  "share": 0.5}


@pytest.mark.parametrize(("text", "reason"), [
    ("", "Expecting value at line 1, column 1"),
    ('{"a": NaN}', "it holds NaN, which is no number"),
    ('[1, -Infinity]', "it holds -Infinity, which is no number"),
    ('{"a": 1e999}', "it holds the number 1e999, which is too large"),
    ("1" * 400, "it holds a number of more than 100 digits"),
    ("0." + "1" * 400, "it holds a number of more than 100 digits"),
    ("1" * 9000, "it holds a number of more than 100 digits"),
    ("\ud800", "it holds half a character (a lone surrogate)"),
    ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key c is given twice in one object"),
    ('"\\ud800"', "it holds half a character (a lone surrogate)"),
    ('{"\\uDFFF": 1}', "it holds half a character (a lone surrogate)"),
    ("[" * 65 + "]" * 65, "it is nested more than 64 deep"),
    ("[" * 100_000 + "]" * 100_000, "it is nested more than 64 deep"),
    ('{"a":' * 100_000, "it is nested more than 64 deep"),
    (b"\xff\xfe", "it is not UTF-8"),
    ('{"a": 1', "Expecting ',' delimiter at line 1, column 8"),
])
def test_what_is_not_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(NotPlain) as caught:
        loads(text)
    assert str(caught.value) == reason
    assert isinstance(caught.value, InputError) and isinstance(caught.value, ValueError)


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert loads('"\\ud83d\\ude00"') == "\U0001f600"


def test_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    path.write_text("{")
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert str(caught.value) == (f"{path} is no JSON that can be read (Expecting property name enclosed in double "
                                 "quotes at line 1, column 2); put it back, or run again what wrote it.")
