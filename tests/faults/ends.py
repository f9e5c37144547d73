"""Whether a verb ended well: done, or in one sentence with the right exit code."""

from __future__ import annotations

import re
from collections.abc import Collection

from tests.faults.processes import End

_SENTENCE = re.compile(r"^(parapet|pipelines): (?P<text>.+)$")
_INTERRUPTED = re.compile(r"^interrupted; .+\.$")
# A crash report is a bug with good manners, and words of Python's are none of a user's.
_NO_SENTENCE = re.compile(r"crash report|unexpected|Traceback|\bNone\b|object at 0x|\[Errno|<class|Error\(")
# What may stand on standard error beside the sentence: nothing but blank lines.
_LONGEST = 4000


def fault_of(end: End, codes: Collection[int] = (0, 1, 2)) -> str | None:
    """What is wrong with an end, None where nothing is. `codes` are the exit codes that may be."""
    if end.code is None:
        return f"hangs: no end within {end.seconds:.0f} seconds"
    everything = end.said + end.error
    if "Traceback (most recent call last)" in everything:
        return "traceback"
    if end.code < 0:
        return f"died by signal {-end.code}"
    if end.code not in codes:
        return f"exit code {end.code} instead of {' or '.join(map(str, sorted(codes)))}"
    lines = [line for line in end.error.splitlines() if line.strip()]
    if end.code == 0:
        return f"says on standard error: {lines[0][:300]}" if lines else None
    sentences = [line for line in lines if _SENTENCE.match(line) or _INTERRUPTED.match(line)]
    if len(lines) != 1 or len(sentences) != 1:
        return f"not one sentence, but {len(lines)} lines on standard error"
    if not sentences[0].rstrip().endswith("."):
        return "its sentence has no end"
    if found := _NO_SENTENCE.search(sentences[0]):
        return f"its sentence says {found[0]!r}"
    if len(sentences[0]) > _LONGEST:
        return f"its sentence has {len(sentences[0]):,} characters"
    return None


def sentence(end: End) -> str:
    """The sentence that a verb ended with."""
    return next((line for line in end.error.splitlines() if line.strip()), "")
