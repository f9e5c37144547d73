"""One flipped or one missing byte in any kind of file, and the next verb: it says so, or does what it always does."""

from __future__ import annotations

import random
import re
from pathlib import Path

from tests.faults.bench import Bench, Result
from tests.faults.ends import fault_of
from tests.faults.verbs import VERBS, Verb

_ORDER = ("front", "search, again", "promote", "report", "full_evaluation", "sync", "promote, second", "data_prep",
          "select", "full_evaluation, again", "attack", "archive verify", "rollback", "train", "promote --to",
          "search, tracked", "archive list", "report, tracked", "pipelines compile", "archive show", "check")
_KINDS = ("flipped", "flipped", "shortened")
# Locks have no content, and what was sent where is only there to save work.
_NO_INPUT = re.compile(r"\.lock$|search\.pid$|outbox-said\.txt$|\.pyc$|^artifacts/(report|plots)/|\.ipynb_")


def impossible() -> str | None:
    """Files can always be damaged."""
    return None


def run(bench: Bench, seed: int, place: int, verb: Verb | None = None) -> Result:
    """A damaged file of a drawn kind and the verb; where that ended in a sentence, the verb with the file as it was."""
    chance = random.Random(f"damage {seed} {place}")
    verb = verb or VERBS[_ORDER[place % len(_ORDER)]]
    bench.reference(verb)
    bench.project.restore(verb.stage)
    path, kind = _drawn(bench.project.place, chance), chance.choice(_KINDS)
    before = path.read_bytes()
    harm = before[:-1] if kind == "shortened" else _flipped(before, chance)
    path.write_bytes(harm)
    result = Result(verb.name, f"{path.relative_to(bench.project.place)} {kind}")
    with bench.case() as case:
        end = case.run(bench.words(verb), bench.limit(verb))
        # What the verb has made anew stays as it is; what it has not touched is for the next verb to see.
        if path.exists() and path.read_bytes() == harm:
            path.write_bytes(before)
        if _is_found(verb, end.code, end.said):
            result.ends.append(end)
            result.how, result.fault = "sentence (1)", fault_of(end, [1]) if end.error.strip() else None
            return result
        bench.judge(verb, end, case, [0, 1, 2, 3] if verb.name.startswith("promote") else [0, 1, 2], result)
        if result.fault is not None or end.code == 0:
            return result
        how = result.how
        if not path.exists() or path.read_bytes() != before:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(before)
        bench.judge(verb, case.run(bench.words(verb), bench.limit(verb)), case, [0], result)
        result.how = how
        return result


def _drawn(folder: Path, chance: random.Random) -> Path:
    """A file of a drawn kind: files whose places differ in ids alone are of one kind."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.stat().st_size and not _NO_INPUT.search(name):
            kinds.setdefault(re.sub(r"[0-9a-f]{12,}|\d{3,}", "ID", name), []).append(path)
    return chance.choice(kinds[chance.choice(sorted(kinds))])


def _flipped(content: bytes, chance: random.Random) -> bytes:
    """One bit of one byte is another."""
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _is_found(verb: Verb, code: int | None, said: str) -> bool:
    """Whether `archive verify` lists what is wrong, which is its work."""
    return verb.name == "archive verify" and code == 1 and bool(re.search(r"^\d+ problems?\.$", said, re.MULTILINE))
