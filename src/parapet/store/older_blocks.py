"""Converts attack results of earlier versions, which had one number per attack with one of two meanings."""

from __future__ import annotations

from typing import Any

# Attacks that earlier versions ran only on images that survived the previous attacks; on variants, on all images.
_AFTER_OTHERS = frozenset({"apgd_ce", "apgd_t", "fab_t", "square", "audit"})


def converted(block: dict[str, Any], *, variant: bool = False) -> dict[str, Any]:
    """A block `validation` or `test` with each attack as {alone, left}, one of them None, as in front's JSON Schema."""
    return {**block, "attacks": {name: _kinds(accuracy, name in _AFTER_OTHERS and not variant)
                                 for name, accuracy in block["attacks"].items()}}


def converted_evaluation(result: dict[str, Any]) -> dict[str, Any]:
    """The content of evaluation/<id>.json of schema version 4, in the form of version 5."""
    record, int8 = result["evaluation"], result.get("int8")
    attacks = {name: {**_kinds(attack["accuracy"], attack["survivors_only"]),
                      **{key: value for key, value in attack.items() if key not in ("accuracy", "survivors_only")}}
               for name, attack in record["attacks"].items()}
    return {**result, "schema_version": 5, "evaluation": {**record, "schema_version": 3, "attacks": attacks},
            "int8": int8 and {**int8, **{name: converted(int8[name], variant=True) for name in ("test", "validation")}}}


def converted_front(front: dict[str, Any]) -> dict[str, Any]:
    """The content of front.json of schema version 6, which lists variants as candidates, in the form of version 7."""
    entries = [{**entry, **{name: converted(entry[name], variant=entry["derived_from"] is not None)
                            for name in ("validation", "test")}}
               for entry in (front["undefended"], *front["candidates"])]
    return {**front, "schema_version": 7, "undefended": entries[0],
            "candidates": [entry for entry in entries[1:] if entry["derived_from"] is None],
            "variants": [entry for entry in entries[1:] if entry["derived_from"] is not None]}


def _kinds(accuracy: float, after_others: bool) -> dict[str, float | None]:
    return {"alone": None, "left": accuracy} if after_others else {"alone": accuracy, "left": None}
