"""How many cores' worth of time, and how much memory, the control groups of Linux grant this process, as Kubernetes
and Docker set it.

Prevents two accidents. A pod with `limits: {cpu: 2}` on a machine of 64 cores sees all 64: it would start 64 threads,
which the kernel pauses for most of every second, and training would be slower than with two. A pod with
`limits: {memory: 2Gi}` sees the whole memory of the machine: it would plan with it, and be killed at 2 GiB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS, _MOUNTS = "proc/self/cgroup", "proc/self/mountinfo"


def granted(root: Path = Path("/")) -> float | None:
    """Cores' worth of time, for example 2.0 or 0.5; None if there is no limit, or none can be read.

    The smallest limit of this process's groups and of all groups above them, of cgroup v1 and v2. A file that cannot
    be read limits nothing. `root` is the folder below which /proc and /sys are looked for.
    """
    limits = [limit for folder in _groups(root, "cpu") if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take before a limit of memory ends it; None, and `root`, as for `granted`.

    What the kernel can drop, files that were read and are not in use, counts as free, as Kubernetes counts it.
    """
    lefts = [left for folder in _groups(root, "memory") if (left := _memory_left(folder)) is not None]
    return min(lefts, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folder of each group that may limit what this process gets of `controller`, and of those above it."""
    own = dict(_own_groups(root, controller))
    for kind, inner, folder in _mounts(root, controller):
        if kind not in own:
            continue
        # A container may see its own group alone, mounted as if it were the uppermost one.
        try:
            below = PurePosixPath(own[kind]).relative_to(inner)
        except ValueError:
            below = PurePosixPath(".")
        place = folder / below if ".." not in below.parts else folder
        yield from (place, *(parent for parent in place.parents if parent == folder or folder in parent.parents))


def _own_groups(root: Path, controller: str) -> Iterator[tuple[str, str]]:
    """(`controller`, path) of cgroup v1 and ("", path) of v2."""
    for line in _read(root / _GROUPS).splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and (parts[1] == "" or controller in parts[1].split(",")):
            yield (controller if parts[1] else ""), parts[2]


def _mounts(root: Path, controller: str) -> Iterator[tuple[str, str, Path]]:
    """As `_own_groups`, what of the hierarchy is mounted, and where."""
    for line in _read(root / _MOUNTS).splitlines():
        before, dash, after = line.partition(" - ")
        fields, (kind, *rest) = before.split(), (after.split() or [""])
        if not dash or len(fields) < 5 or kind not in ("cgroup", "cgroup2"):
            continue
        if kind == "cgroup" and not (rest and controller in rest[-1].split(",")):
            continue
        inner, place = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text) for text in fields[3:5])
        yield (controller if kind == "cgroup" else ""), inner, root / place.lstrip("/")


def _limit(folder: Path) -> float | None:
    texts = _read(folder / "cpu.max").split() or \
        [_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()]
    try:
        quota, period = (int(text) for text in texts)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _memory_left(folder: Path) -> int | None:
    for limit, used, idle in (("memory.max", "memory.current", "inactive_file"),
                              ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")):
        try:
            left = int(_read(folder / limit)) - int(_read(folder / used))
        except ValueError:  # "max", or no such file
            continue
        stat = re.search(rf"^{idle} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
        return max(0, left + (int(stat[1]) if stat else 0))
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
