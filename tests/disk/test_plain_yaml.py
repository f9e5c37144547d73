"""YAML: what is plain means what DVC takes it for, what is not is one short sentence, in no time."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from yaml import safe_dump

from parapet import config
from parapet.disk.plain_json import NotPlain
from parapet.disk.plain_yaml import loads, read
from parapet.errors import InputError
from parapet.training.recipes import load_recipe

ALIAS_BOMB = "\n".join(["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]"] + [
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefg", "bcdefgh")])


@pytest.mark.parametrize(("text", "value"), [
    ("", None), ("# nothing\n", None), ("~", None), ("null", None), ("a:", {"a": None}),
    ("[true, False, TRUE]", [True, False, True]), ("[yes, no, on, off, y]", ["yes", "no", "on", "off", "y"]),
    ("[1, -2, +3, 010, 0o10, 0x1F, 5_000]", [1, -2, 3, 10, 8, 31, 5000]),
    ("[1e-05, 1e1, 1E5, .5, 5., -1.5e+3]", [1e-05, 10.0, 1e5, 0.5, 5.0, -1500.0]),
    ("[.inf, -.inf]", [math.inf, -math.inf]), ("2020-01-01", "2020-01-01"), ("1:30", "1:30"), ("8/255", "8/255"),
    ("\"1\"", "1"), ("'true'", "true"), ("|\n two\n lines\n", "two\nlines\n"), ("!!str 8", "8"), ("!!float 1", 1.0),
    ("!!int '3'", 3), ("! 8", "8"), ("{1: a, true: b, null: c}", {"1": "a", "true": "b", "null": "c"}),
    ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}), ("---\na: 1\n...\n", {"a": 1}), ("\ufeffa: 1", {"a": 1}),
])
def test_what_is_plain(text: str, value: Any) -> None:
    found = loads(text)
    assert found == value and type(found) is type(value)


def test_an_alias_is_a_copy() -> None:
    found = loads("a: &x [1]\nb: *x")
    found["a"].append(2)
    assert found["b"] == [1]


@pytest.mark.parametrize("text", ["[1e-05, 1e1, 010, 0o10, yes, 2020-01-01, .5, 1_000, 0x1f, ~, 12:30, +1, -0.0]",
                                  "{a: 1e5, b: [true, False, on], c: 'x', d: \"1\", e: }"])
def test_it_means_what_dvc_takes_it_for(text: str) -> None:
    theirs = YAML(typ="safe").load(text)
    assert repr(loads(text)) == repr(theirs).replace("datetime.date(2020, 1, 1)", "'2020-01-01'")


characters = st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"])


def of_texts(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Whatever is plain, with these texts in it."""
    return st.recursive(
        st.none() | st.booleans() | st.integers(-10**18, 10**18) | st.floats(allow_nan=False, allow_infinity=False)
        | texts, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc d-", max_size=5), inner),
        max_leaves=20)


# Further on are separators of lines, and halves of characters that JSON escapes.
@given(of_texts(st.text(st.characters(min_codepoint=32, max_codepoint=0x1FFF, exclude_categories=["Cs", "Cc"]))))
@example("0E0")
def test_whatever_is_plain_comes_back_from_json(value: Any) -> None:
    assert loads(json.dumps(value, ensure_ascii=False)) == value


@given(of_texts(st.text(characters, max_size=20).filter(lambda text: not re.match(r"[-+]?\.?\d", text))))
def test_whatever_is_plain_comes_back(value: Any) -> None:
    # PyYAML writes by the rules of YAML 1.1, which leave texts such as 0E0, a number here, without quotes.
    assert loads(safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize(("text", "reason"), [
    ("? [a]: 1", "at line 1, column 3: a key has to be text, and this one is a list or a mapping"),
    ("? {a: 1}\n: 2", "at line 1, column 3: a key has to be text, and this one is a list or a mapping"),
    ("a: &b c\n*b : 1", "at line 2, column 1: a key has to be text, and this one is an alias"),
    ('a: !!int ""', "at line 1, column 4: '' is not a valid int, although its tag says so"),
    ("!!bool x", "at line 1, column 1: x is not a valid bool, although its tag says so"),
    ("!!timestamp x", "at line 1, column 1: the tag tag:yaml.org,2002:timestamp is not supported; write the value "
                      "without it"),
    ("!!python/object:os.system x", "is not supported; write the value without it"),
    ("!!set {a}", "the tag tag:yaml.org,2002:set is not supported"),
    ("!!binary aGk=", "the tag tag:yaml.org,2002:binary is not supported"),
    ("!!omap [a: 1]", "the tag tag:yaml.org,2002:omap is not supported"),
    ("!!map [1]", "the tag map does not match the value after it"),
    ("!!seq x", "x is not a valid seq, although its tag says so"),
    ("[" * 2000, "at line 1, column 34: it is nested more than 32 deep"),
    ("[" * 200_000, "it is nested more than 32 deep"),
    ("{a: " * 2000, "it is nested more than 32 deep"),
    ("- " * 2000, "it is nested more than 32 deep"),
    ("1" * 400, "at line 1, column 1: a number has 400 characters, and at most 100 are read"),
    ("0x" + "f" * 200, "a number has 202 characters, and at most 100 are read"),
    ("1e" + "9" * 200, "a number has 202 characters"),
    ('"\\ud800"', "at line 1, column 1: the text '\\ud800' contains a control character or a lone surrogate"),
    ('"\\UFFFFFFFF"', "it does not parse (Python int too large to convert to C int)"),
    ('"a\\0b"', "the text 'a\\x00b' contains a control character or a lone surrogate"),
    ("a: \x00", "at line 1, column 4: it holds a character that YAML does not allow"),
    ("a: 1\nb: \ud800", "at line 2, column 4: it holds a character that YAML does not allow"),
    ("a: 1\na: 2", "at line 2, column 1: the key a is given twice in one mapping"),
    ("1: 1\n'1': 2", "the key 1 is given twice in one mapping"),
    (ALIAS_BOMB, "it has more than 20,000 values, counting every alias at its full size"),
    ("&a [*a]", "at line 1, column 5: the alias a refers to no anchor defined above it"),
    (f"- &a x\n{'- *a' + chr(10)}" + "- *a\n" * 100, "it has more than 100 aliases"),
    ("*nothing", "the alias nothing refers to no anchor defined above it"),
    ("a: 1\n--- \nb: 2", "at line 2, column 1: a second document begins, and only one is allowed"),
    ("a: [", "at line 1, column 5: expected the node content, but found '<stream end>'"),
    ("\t- a", "found character '\\t' that cannot start any token"),
    ("a: " + "x" * 5000, "at line 1, column 4: a text has 5,000 characters, and at most 4,096 are read"),
    ("k" * 200 + "\n\n\ufffe", "it holds a character that YAML does not allow"),
    ("%YAML " + "9" * 5000 + ".1\n---\n1", "it does not parse"),
    ("x" * 300_000, "it has more than 262,144 characters"),
    ("- 1\n" * 30_000, "it has more than 20,000 values, counting every alias at its full size"),
])
def test_what_is_not_plain(text: str, reason: str) -> None:
    with pytest.raises(NotPlain) as caught:
        loads(text)
    told = str(caught.value)
    assert reason in told and told.startswith("at line ") and len(told) < 260 and told.isprintable()


@pytest.mark.parametrize(("content", "sentence"), [
    (None, "{path} does not exist; give one."),
    (b"\xff\xfea\x00", "{path} cannot be read (it is not UTF-8); give a readable UTF-8 YAML file."),
    ("a: 1".encode("utf-16"), "{path} cannot be read (it is not UTF-8); give a readable UTF-8 YAML file."),
    (b"# " + b"x" * 300_000, "{path} has more than 262,144 bytes; a file of parameters needs a few thousand."),
    (b"a: [", "{path} cannot be read as plain YAML: at line 1, column 5: expected the node content, but found "
              "'<stream end>'; correct it there."),
])
def test_a_file_is_named(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "file.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path, "give one")
    assert str(caught.value) == sentence.format(path=path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\); give a readable UTF-8 YAML file\."):
        read(tmp_path, "give one")


def test_numbers_in_lists_of_choices(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("search: {space: {weight_decay: [1e-05, 1e-3], width: [1e1, 4]}}")
    assert config.load(path).search.space == {"weight_decay": [1e-05, 1e-3], "width": [10.0, 4]}


def test_a_change_is_read_by_the_same_rules() -> None:
    assert load_recipe("digits", ["genome.weight_decay=1e-05"]).genome.weight_decay == 1e-05
    with pytest.raises(InputError) as caught:
        load_recipe("digits", ["genome.width=" + "[" * 2000])
    assert "it is nested more than 32 deep" in str(caught.value) and len(str(caught.value)) < 400
