"""Files that are damaged, one at a time; and files that are forged, so that every digest fits what they now say."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parapet.disk import sealed
from parapet.disk.files import read_json, write_json
from parapet.store import archive

FLIPS = 3


def _flipped(place: int) -> Callable[[bytes, Path], bytes]:
    def flip(content: bytes, path: Path) -> bytes:
        chance = random.Random(f"{path.name} {place}")
        changed = bytearray(content or b"\0")
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    return flip


# What is done to a file, by a name for it: its content becomes another; None deletes it. `other` is what another run
# has in its place.
KINDS: dict[str, Callable[[bytes, Path], bytes] | None] = {
    "emptied": lambda content, path: b"",
    "shortened": lambda content, path: content[:-1],
    "halved": lambda content, path: content[:len(content) // 2],
    **{f"flipped {place}": _flipped(place) for place in range(FLIPS)},
    "deleted": None,
    "null": lambda content, path: b"null\n",
    "list": lambda content, path: b"[]\n",
    "object": lambda content, path: b"{}\n",
}


@contextmanager
def damaged(path: Path, kind: str, other: Path | None = None) -> Iterator[None]:
    """`path` is damaged in one of the `KINDS`, or "replaced" by the file `other`; put back in the end, byte for byte.

    Modification times are kept out of it: a file that is put back is a new one.
    """
    content = path.read_bytes()
    if kind == "replaced":
        changed = other.read_bytes()
    else:
        change = KINDS[kind]
        changed = None if change is None else change(content, path)
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def of_another_run(path: Path, place: Path) -> Path | None:
    """A file in the folder `place` as another run would have left it where `path` is: sound in itself, with other
    content; None where this cannot be made up."""
    other = place / path.name
    other.unlink(missing_ok=True)
    if path.suffix == ".json":
        value = read_json(path)
        if not isinstance(value, dict):
            return None
        value = _others(value)
        if sealed.CHECKSUM in value:
            sealed.write(other, value)
        else:
            write_json(other, value)
        return other
    if path.suffix == ".jsonl":
        archive.append(other, [{**record, "seed": record["seed"] + 1, "validation": record["validation"] and {
            **record["validation"], "robust_accuracy": 1.0}} for record in archive.read(path)])
        return other
    twins = [twin for twin in sorted(path.parent.parent.glob(f"*/*{path.suffix}"))
             if twin.read_bytes() != path.read_bytes()]
    return twins[0] if twins else None


def _others(value: Any) -> Any:
    """The same with other shares, keys and digests, by which another run tells itself apart."""
    if isinstance(value, dict):
        return {name: item if name in ("schema_version", "status") else _others(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_others(item) for item in value]
    if isinstance(value, float) and 0 < value < 1:
        return 1 - value
    if isinstance(value, str) and len(value) in (12, 64) and set(value) <= set("0123456789abcdef"):
        return value[::-1]
    return value


def files(folder: Path) -> list[Path]:
    """Every file below `folder`, in order, as paths relative to it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def forge(path: Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Change a JSON object and make it fit again: its checksum, if it has one, and the digests.json above it."""
    value = read_json(path)
    change(value)
    if sealed.CHECKSUM in value:
        value = sealed.write(path, value)
    else:
        write_json(path, value)
    reseal(path)
    return value


def reseal(path: Path) -> None:
    """Make the digests.json in the folder of `path`, or in one above it, fit what is there."""
    for folder in path.parents:
        if (folder / sealed.DIGESTS).exists():
            about = read_json(folder / sealed.DIGESTS)
            kept = {name: value for name, value in about.items() if name not in ("files", sealed.CHECKSUM,
                                                                                 "schema_version")}
            sealed.seal_folder(folder, **kept)
            return


def forge_evaluation(out: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change `out`/evaluation/<name>.json, and make front.json fit it."""
    found = forge(out / "evaluation" / f"{name}.json", change)

    def fit(front: dict[str, Any]) -> None:
        for member in [front["undefended"], *front["candidates"], *front["variants"]]:
            if name in (member["id"], member["derived_from"]):
                member["sha256"]["evaluation"] = found[sealed.CHECKSUM]
    forge(out / "front.json", fit)


def forge_search(out: Path, change: Callable[[], None]) -> None:
    """Do `change` to files in `out`/search, and make its digests.json and front.json fit."""
    change()
    reseal(out / "search" / "archive.jsonl")
    seal = read_json(out / "search" / sealed.DIGESTS)[sealed.CHECKSUM]
    if (out / "front.json").exists():
        forge(out / "front.json", lambda front: front["search"].update(sha256=seal))
