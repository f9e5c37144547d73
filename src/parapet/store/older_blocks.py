"""What earlier versions wrote of attacks, in today's form: theirs was one number for each, whichever it meant."""

from __future__ import annotations

from typing import Any

# What the suites of earlier versions let meet survivors only. For a variant these attacks met every image.
_AFTER_OTHERS = frozenset({"apgd_ce", "apgd_t", "fab_t", "square", "audit"})


def converted(block: dict[str, Any], *, variant: bool = False) -> dict[str, Any]:
    """A block `validation` or `test` with each attack as {alone, left}, one of them None: see front's JSON Schema."""
    return {**block, "attacks": {name: _kinds(accuracy, name in _AFTER_OTHERS and not variant)
                                 for name, accuracy in block["attacks"].items()}}


def converted_evaluation(result: dict[str, Any]) -> dict[str, Any]:
    """evaluation/<id>.json of schema version 4, in the form of version 5."""
    record, int8 = result["evaluation"], result.get("int8")
    attacks = {name: {**_kinds(attack["accuracy"], attack["survivors_only"]),
                      **{key: value for key, value in attack.items() if key not in ("accuracy", "survivors_only")}}
               for name, attack in record["attacks"].items()}
    return {**result, "schema_version": 5, "evaluation": {**record, "schema_version": 3, "attacks": attacks},
            "int8": int8 and {**int8, **{name: converted(int8[name], variant=True) for name in ("test", "validation")}}}


def converted_front(front: dict[str, Any]) -> dict[str, Any]:
    """front.json of schema version 6, in the form of version 7: variants stood among the candidates."""
    entries = [{**entry, **{name: converted(entry[name], variant=entry["derived_from"] is not None)
                            for name in ("validation", "test")}}
               for entry in (front["undefended"], *front["candidates"])]
    return {**front, "schema_version": 7, "undefended": entries[0],
            "candidates": [entry for entry in entries[1:] if entry["derived_from"] is None],
            "variants": [entry for entry in entries[1:] if entry["derived_from"] is not None]}


def _kinds(accuracy: float, after_others: bool) -> dict[str, float | None]:
    return {"alone": None, "left": accuracy} if after_others else {"alone": accuracy, "left": None}
