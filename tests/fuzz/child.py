"""The process that runs cases: says on standard output when it begins a case and how the case ended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from parapet.errors import InputError, ParapetError, WorkError
from tests.fuzz.part import Nonsense, Part, case
from tests.fuzz.parts import make

LONGEST_SENTENCE = 1200
# The case that is running, so that whoever watches can keep it.
CASE = "case"


def run(name: str, seed: int, start: int, end: int, folder: Path, say: Any) -> None:
    """Cases `start` to before `end` of the part called `name`."""
    os.environ["PARAPET_DATA"] = ""
    part = make(name, folder)
    say({"ready": True, "seconds": part.seconds})
    for number in range(start, end):
        content = case(part, name, seed, number)
        (folder / CASE).write_bytes(content)
        say({"begin": number})
        begun = time.process_time()
        outcome, why = outcome_of(part, content)
        say({"end": number, "outcome": outcome, "why": why, "cpu": time.process_time() - begun,
             "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})


def outcome_of(part: Part, content: bytes) -> tuple[str, str]:
    """(accepted, refused, traceback, memory or nonsense; the sentence or the last lines of a traceback)."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            part.check(content)
    except (InputError, WorkError, ParapetError) as error:
        return _sentence(str(error))
    except Nonsense as error:
        return "nonsense", str(error)[:500]
    except MemoryError:
        return "memory", "MemoryError"
    except BaseException:  # a panic of native code is no Exception
        return "traceback", traceback.format_exc()[-1500:]
    return "accepted", ""


def _sentence(text: str) -> tuple[str, str]:
    if len(text) > LONGEST_SENTENCE or not text.isprintable() or not text.strip():
        return "traceback", f"a sentence of {len(text)} characters, printable: {text.isprintable()}: {text[:300]!r}"
    return "refused", text


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        """One line of JSON to whoever watches."""
        channel.write(json.dumps(message) + "\n")

    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]), tell)
