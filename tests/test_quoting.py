"""What sentences repeat of somebody else's values: never more than 80 characters, always on one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from parapet.quoting import LONGEST, listed, name, quote, words


@pytest.mark.parametrize("value", [None, True, 3, -1.5, 1e-5, "text", "it's", [1, "a", None], {"a": [1], "b": {}}, (1,),
                                   [], {}, "ü\n\t"])
def test_a_small_value_is_quoted_as_python_writes_it(value: object) -> None:
    assert quote(value) == repr(value)


@pytest.mark.parametrize("value", [
    "x" * 10_000_000, ["x"] * 1_000_000, {str(number): number for number in range(100_000)}, 10**5000, -10**5000,
    "\ud800" * 100, "\n" * 100, [[[["deep"] * 50] * 50] * 50] * 50], ids=lambda value: type(value).__name__)
def test_a_large_one_is_cut(value: object) -> None:
    found = quote(value)
    assert len(found) <= LONGEST and found.isprintable()


def test_nested_beyond_reason_is_cut_too() -> None:
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    assert quote(nested) == f"{'[' * 21}...{']' * 21}"


def test_a_name_stands_as_it_is_unless_it_is_odd() -> None:
    assert name("search.population") == "search.population"
    assert name("a\nb") == "'a\\nb'" and name("") == "''" and name(3) == "3"
    assert len(name("k" * 500)) <= LONGEST


def test_what_a_library_says_is_one_line() -> None:
    assert words("first\n  second\x00") == "first second?"
    assert len(words("x" * 1_000_000)) == 200


@pytest.mark.parametrize("length", [1, 50, 87, 300, 5_000, 200_000])
def test_passwords_are_taken_out_before_anything_is_cut(length: int) -> None:
    secret = "hunter2" + "x" * length
    for text in (f"postgresql://alice:{secret}@db/m", f"alice:{secret}@db", f"token={secret}",
                 f"password: '{secret} b'", f"{'x ' * 30}postgresql://alice:{secret}@db/m"):
        for found in (quote(text), quote([text]), quote({"a": text}), quote({text: 1}), quote(Path(text)), name(text),
                      listed(["a", text]), words(f"it said:\n{text}"), words(ValueError(text))):
            assert "hunter2" not in found, (text[:60], found)
    assert quote({"password": f"a {secret}", "n": 1}) == "{'password': '***', 'n': 1}"
