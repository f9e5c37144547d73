"""How many cores' worth of time the control groups of Linux grant this process, as Kubernetes and Docker set it.

A pod with `limits: {cpu: 2}` on a machine of 64 cores sees all 64: the kernel only stops its threads once they have had
two seconds of processor time in a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS, _MOUNTS = "proc/self/cgroup", "proc/self/mountinfo"


def granted(root: Path = Path("/")) -> float | None:
    """Cores' worth of time, for example 2.0 or 0.5; None where there is no limit or nobody says.

    The smallest limit of this process's groups and of all groups above them, of cgroup v1 and v2. A file that cannot
    be read limits nothing. `root` is the folder below which /proc and /sys are looked for.
    """
    limits = [limit for folder in _groups(root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """The folder of each group that may limit this process, and of those above it."""
    own = dict(_own_groups(root))
    for kind, inner, folder in _mounts(root):
        if kind not in own:
            continue
        # A container may see its own group alone, mounted as if it were the uppermost one.
        try:
            below = PurePosixPath(own[kind]).relative_to(inner)
        except ValueError:
            below = PurePosixPath(".")
        place = folder / below if ".." not in below.parts else folder
        yield from (place, *(parent for parent in place.parents if parent == folder or folder in parent.parents))


def _own_groups(root: Path) -> Iterator[tuple[str, str]]:
    """("cpu", path) of cgroup v1 and ("", path) of v2."""
    for line in _read(root / _GROUPS).splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and (parts[1] == "" or "cpu" in parts[1].split(",")):
            yield ("cpu" if parts[1] else ""), parts[2]


def _mounts(root: Path) -> Iterator[tuple[str, str, Path]]:
    """As `_own_groups`, what of the hierarchy is mounted, and where."""
    for line in _read(root / _MOUNTS).splitlines():
        before, dash, after = line.partition(" - ")
        fields, (kind, *rest) = before.split(), (after.split() or [""])
        if not dash or len(fields) < 5 or kind not in ("cgroup", "cgroup2"):
            continue
        if kind == "cgroup" and not (rest and "cpu" in rest[-1].split(",")):
            continue
        inner, place = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text) for text in fields[3:5])
        yield ("cpu" if kind == "cgroup" else ""), inner, root / place.lstrip("/")


def _limit(folder: Path) -> float | None:
    texts = _read(folder / "cpu.max").split() or \
        [_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()]
    try:
        quota, period = (int(text) for text in texts)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
