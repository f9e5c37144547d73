"""The CPU and memory limits that Linux control groups set for this process, as used by Kubernetes and Docker.

A pod with `limits: {cpu: 2}` on a machine with 64 cores sees all 64. Without this check it would start 64 threads,
which the kernel throttles, and training would be slower than with two. A pod with `limits: {memory: 2Gi}` sees the
whole memory of the machine; without this check it would plan to use it, and be killed at 2 GiB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS, _MOUNTS = "proc/self/cgroup", "proc/self/mountinfo"


def granted(root: Path = Path("/")) -> float | None:
    """The CPU limit in cores, for example 2.0 or 0.5; None if there is no limit, or none can be read.

    This is the smallest limit of this process's groups and of all their ancestors, for cgroup v1 and v2. A file that
    cannot be read counts as no limit. `root` is the folder that contains proc and sys.
    """
    limits = [limit for folder in _groups(root, "cpu") if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still allocate below its memory limit; None and `root` as for `granted`.

    Inactive file cache, which the kernel can drop, counts as free, as in Kubernetes.
    """
    lefts = [left for folder in _groups(root, "memory") if (left := _memory_left(folder)) is not None]
    return min(lefts, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups that may limit this process's use of `controller`, and of their ancestors."""
    own = dict(_own_groups(root, controller))
    for kind, inner, folder in _mounts(root, controller):
        if kind not in own:
            continue
        # A container may see only its own group, mounted as the root group.
        try:
            below = PurePosixPath(own[kind]).relative_to(inner)
        except ValueError:
            below = PurePosixPath(".")
        place = folder / below if ".." not in below.parts else folder
        yield from (place, *(parent for parent in place.parents if parent == folder or folder in parent.parents))


def _own_groups(root: Path, controller: str) -> Iterator[tuple[str, str]]:
    """The paths of this process's groups: (`controller`, path) for cgroup v1 and ("", path) for v2."""
    for line in _read(root / _GROUPS).splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and (parts[1] == "" or controller in parts[1].split(",")):
            yield (controller if parts[1] else ""), parts[2]


def _mounts(root: Path, controller: str) -> Iterator[tuple[str, str, Path]]:
    """(`controller` for v1 or "" for v2, mounted path of the hierarchy, mount point) of each mounted hierarchy."""
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
