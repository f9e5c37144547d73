"""python -m benchmarks.scale [PART ...]: seconds and memory at the sizes that README.md names, against its limits, and
how long the report keeps its reader waiting in Chromium.

Each part runs in a process of its own, over files that are made first; the exit code is 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale import fluency, made_up
from parapet.config import DataPrepConfig
from parapet.data import split
from parapet.data.dataset import write

_GIGABYTE = 10**9
_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Part:
    """A command of a fresh process, what it may take, and the file whose size has a limit too."""

    limit_seconds: float | None
    limit_bytes: float | None
    prepare: Callable[[Path, argparse.Namespace], None]
    command: Callable[[Path], list[str]]
    page: bool = False
    limit_page: float = 8e6


def _archive(folder: Path, options: argparse.Namespace) -> None:
    made_up.write_archive(folder / "archive.jsonl", options.candidates)


def _front(folder: Path, options: argparse.Namespace) -> None:
    made_up.write_artifacts(folder, members=options.members, candidates=options.members)


def _whole(folder: Path, options: argparse.Namespace) -> None:
    made_up.write_artifacts(folder, members=options.members, candidates=options.candidates)


def _nothing(folder: Path, options: argparse.Namespace) -> None:
    (folder / "size").write_text(str(options.image_bytes))


def _parapet(*words: str) -> list[str]:
    return [sys.executable, "-m", "parapet.cli", *words]


PARTS = {
    # The source itself is the first gigabyte.
    "data_prep": Part(None, 2 * _GIGABYTE, _nothing, lambda folder: [sys.executable, "-m", "benchmarks.scale",
                                                                    "--prepare-images", str(folder)]),
    "archive_list": Part(2.0, 0.3 * _GIGABYTE, _archive, lambda folder: _parapet(
        "archive", "list", "--limit", "5", "--archive", str(folder / "archive.jsonl"))),
    "select": Part(1.0, None, _front, lambda folder: _parapet("select", "knee", "--out", str(folder))),
    "report": Part(60.0, _GIGABYTE, _whole, lambda folder: _parapet("report", "--out", str(folder), "--cache",
                                                                  str(folder / "cache")), page=True),
}


def main() -> int:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--candidates", type=int, default=100_000, help="records of the archive")
    parser.add_argument("--members", type=int, default=500, help="members of the front")
    parser.add_argument("--image-bytes", type=int, default=_GIGABYTE, help="of the images that are prepared")
    parser.add_argument("--prepare-images", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare_images is not None:
        count = int((options.prepare_images / "size").read_text()) // (_SHAPE[0] * _SHAPE[1] * _SHAPE[2])
        source = made_up.source(count, _SHAPE)
        write(options.prepare_images / "dataset", source, split(source, DataPrepConfig(), 0))
        return 0
    missed = 0
    for name in options.parts or PARTS:
        missed += not _measured(name, PARTS[name], options)
    return 1 if missed else 0


def _measured(name: str, part: Part, options: argparse.Namespace) -> bool:
    """Run one part, print a line, and say whether it kept its limits."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        part.prepare(folder, options)
        (folder / "params.yaml").write_text("tracking: {enabled: false}\n")
        started = time.perf_counter()
        process = subprocess.Popen(part.command(folder), cwd=folder, stdout=subprocess.DEVNULL,
                                   env={**os.environ, "PYTHONPATH": _here()})
        peak = 0
        while (found := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            # Not ru_maxrss: that begins with what this process takes, from which the child is split off.
            peak = max(peak, _peak(process.pid))
            time.sleep(0.005)
        _, status, usage = found
        seconds = time.perf_counter() - started
        index = folder / "report" / "index.html"
        page = made_up.size_of(index) if part.page and status == 0 else None
        fluent = fluency.told(index) if page is not None else True
    kept = (status == 0 and seconds <= (part.limit_seconds or seconds) and peak <= (part.limit_bytes or peak)
            and (page or 0) <= part.limit_page and fluent)
    of_seconds = f" of {part.limit_seconds:g}" if part.limit_seconds else ""
    of_bytes = f" of {part.limit_bytes / 1e6:,.0f}" if part.limit_bytes else ""
    size = f", page {page / 1e6:.2f} MB of {part.limit_page / 1e6:g}" if page is not None else ""
    verdict = "met" if kept else "MISSED" if status == 0 else "FAILED"
    print(f"{name}: {seconds:.1f} s{of_seconds} ({usage.ru_utime + usage.ru_stime:.1f} s of processor), "
          f"{peak / 1e6:,.0f} MB{of_bytes}{size}: {verdict}", flush=True)
    return kept


def _peak(pid: int) -> int:
    """Bytes of memory that a process took at most so far."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0)


def _here() -> str:
    return os.pathsep.join(str(Path(folder).resolve()) for folder in ("src", "."))


if __name__ == "__main__":
    sys.exit(main())
