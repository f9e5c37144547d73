"""What a container was granted of the machine's cores: cgroup v1 and v2, nested, fractions, damaged; and who counts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parapet import cores, devices
from parapet.data import npz
from parapet.disk import quota

ROOT = Path(__file__).parents[2]
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 30 0:27 {inner} /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"


def machine(root: Path, groups: str, mounts: str, **files: str) -> Path:
    """A root folder with this /proc, and these files below /sys/fs/cgroup."""
    everything = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts,
                  **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
    for name, text in everything.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine of 64 cores."""
    monkeypatch.setattr(cores, "affinity", lambda: list(range(64)))


@pytest.mark.usefixtures("sixty_four")
@pytest.mark.parametrize(("text", "count"), [
    ("200000 100000\n", 2), ("max 100000\n", 64), ("150000 100000\n", 1), ("50000 100000\n", 1), ("1000 100000\n", 1),
    ("6400000 100000", 64), ("12800000 100000", 64), ("", 64), ("200000", 64), ("two many", 64), ("0 100000", 64),
    ("200000 0", 64), ("-1 100000", 64), ("\x00\xff", 64)])
def test_a_pod_of_cgroup_v2(tmp_path: Path, text: str, count: int) -> None:
    """Inside a container's own namespace its group is the uppermost one."""
    root = machine(tmp_path, "0::/\n", V2, **{"cpu.max": text})
    assert cores.cpu_count(root) == count


@pytest.mark.usefixtures("sixty_four")
@pytest.mark.parametrize(("given", "period", "count"), [
    ("200000", "100000", 2), ("-1", "100000", 64), ("250000\n", "100000\n", 2), ("20000", "100000", 1),
    ("200000", "", 64), ("", "", 64), ("600000", "50000", 12)])
def test_a_pod_of_cgroup_v1(tmp_path: Path, given: str, period: str, count: int) -> None:
    """The container's group is mounted as the uppermost one, and its path is the machine's."""
    inner = "/kubepods/burstable/pod12/34"
    root = machine(tmp_path, f"5:cpuset:{inner}\n4:cpu,cpuacct:{inner}\n1:name=systemd:{inner}\n0::/\n",
                   V1.format(inner=inner), **{"cpu,cpuacct/cpu.cfs_quota_us": given,
                                              "cpu,cpuacct/cpu.cfs_period_us": period})
    assert cores.cpu_count(root) == count


@pytest.mark.usefixtures("sixty_four")
def test_the_smallest_limit_of_all_groups_above_counts(tmp_path: Path) -> None:
    limits = {"a/cpu.max": "800000 100000", "a/b/cpu.max": "300000 100000", "a/b/c/cpu.max": "max 100000",
              "other/cpu.max": "100000 100000"}
    assert quota.granted(machine(tmp_path / "v2", "0::/a/b/c\n", V2, **limits)) == 3.0
    v1 = {f"cpu,cpuacct/{name}": text for name, text in {
        "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000", "a/cpu.cfs_quota_us": "250000",
        "a/cpu.cfs_period_us": "100000", "a/b/cpu.cfs_quota_us": "400000", "a/b/cpu.cfs_period_us": "100000"}.items()}
    assert quota.granted(machine(tmp_path / "v1", "4:cpu,cpuacct:/a/b\n", V1.format(inner="/"), **v1)) == 2.5
    # Both at once, as systemd's hybrid hierarchy has them.
    hybrid = machine(tmp_path / "both", "4:cpu,cpuacct:/a/b\n0::/a/b/c\n", V1.format(inner="/") + V2,
                     **{**v1, **limits})
    assert quota.granted(hybrid) == 2.5


@pytest.mark.usefixtures("sixty_four")
@pytest.mark.parametrize(("groups", "mounts"), [
    ("", ""), ("0::/\n", ""), ("", V2), ("rubbish\n:::\n", V2), ("0::/\n", "rubbish - cgroup2\n - \n"),
    ("4:cpu:/\n", V2), ("0::/gone\n", V2)])
def test_what_cannot_be_read_limits_nothing(tmp_path: Path, groups: str, mounts: str) -> None:
    assert quota.granted(tmp_path / "nowhere") is None
    assert cores.cpu_count(machine(tmp_path, groups, mounts)) == 64


@pytest.mark.usefixtures("sixty_four")
@pytest.mark.parametrize("path", ["/../elsewhere", "/kubepods/other"])
def test_a_path_outside_what_is_mounted_is_that_of_the_mount(tmp_path: Path, path: str) -> None:
    root = machine(tmp_path, f"0::{path}\n", V2.replace(" / ", " /kubepods/mine ", 1), **{"cpu.max": "200000 100000"})
    assert cores.cpu_count(root) == 2


def test_spaces_in_the_place_of_a_mount(tmp_path: Path) -> None:
    mounts = V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/the\\040groups ")
    assert quota.granted(machine(tmp_path, "0::/\n", mounts, **{"the groups/cpu.max": "100000 100000"})) == 1.0


@pytest.mark.usefixtures("sixty_four")
def test_two_cores_of_64_are_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(tmp_path, "0::/\n", V2, **{"cpu.max": "200000 100000"})
    assert cores.describe(root) == "2 of 64 cores" and cores.describe(tmp_path / "nowhere") == ""
    monkeypatch.setattr(quota, "granted", lambda root, honest=quota.granted: honest(tmp_path))
    assert devices.resolve("cpu", workers=None, threads=1) == ["cpu"] * 2
    assert devices.resolve("cpu", workers=None, threads=2) == ["cpu"]
    assert devices.resolve("cpu", workers=None, threads=4) == ["cpu"]


def test_libraries_start_no_more_threads_than_are_granted(tmp_path: Path) -> None:
    """torch itself is asked, in a process whose environment was limited."""
    half = machine(tmp_path, "0::/\n", V2, **{"cpu.max": "100000 100000"})
    environment = {name: text for name, text in os.environ.items() if not name.endswith("_NUM_THREADS")}
    cores.limit_threads(environment, half)
    granted = {name for name in environment if name.endswith("_NUM_THREADS")}
    if cores.cpu_count(tmp_path / "nowhere") == 1:
        assert granted == set()
        return
    assert granted == {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
    found = subprocess.run([sys.executable, "-c", "import torch; print(torch.get_num_threads())"], env=environment,
                           capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"
    theirs = {"OMP_NUM_THREADS": "7"}
    cores.limit_threads(theirs, half)
    assert theirs["OMP_NUM_THREADS"] == "7"
    free: dict[str, str] = {}
    cores.limit_threads(free, tmp_path / "nowhere")
    assert free == {}


@pytest.mark.parametrize(("limit", "used", "stat", "left"), [
    ("1000", "400", "", 600), ("1000", "400", "anon 300\ninactive_file 100\n", 700), ("max", "400", "", None),
    ("1000", "1400", "", 0), ("1000", "", "", None), ("", "", "", None), ("\x00", "1", "inactive_file x", None)])
def test_memory_that_a_pod_may_still_take(tmp_path: Path, limit: str, used: str, stat: str, left: int | None) -> None:
    v2 = machine(tmp_path / "v2", "0::/\n", V2, **{"memory.max": limit, "memory.current": used, "memory.stat": stat})
    assert quota.memory_left(v2) == left
    mounts = V1.format(inner="/").replace("cpu,cpuacct", "memory")
    names = {"memory/memory.limit_in_bytes": limit.replace("max", "-1\n."), "memory/memory.usage_in_bytes": used,
             "memory/memory.stat": stat.replace("inactive_file", "total_inactive_file")}
    assert quota.memory_left(machine(tmp_path / "v1", "4:memory:/\n3:cpu:/\n", mounts, **names)) == left


def test_the_least_memory_of_all_groups_above_counts(tmp_path: Path) -> None:
    limits = {f"{place}memory.{name}": text for place, most in (("a/", "900"), ("a/b/", "5000"), ("a/b/c/", "max"))
              for name, text in (("max", most), ("current", "100"))}
    root = machine(tmp_path, "0::/a/b/c\n", V2, **limits)
    assert quota.memory_left(root) == 800 and quota.granted(root) is None
    assert quota.memory_left(tmp_path / "nowhere") is None


def test_arrays_are_refused_that_the_pod_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((10, 8, 8), np.uint8), labels=np.zeros(10, np.int64))
    monkeypatch.setattr(quota, "memory_left", lambda: 100)
    with pytest.raises(npz.BadArrays, match=r"needs 0\.0 GB of memory, of which 0\.0 are free"):
        npz.read(tmp_path / "a.npz", ("images", "labels"))


# Whoever counts cores or starts threads by himself, and who may: the counters, and a graph that is run without us.
COUNTERS = r"\bcpu_count\(\)|process_cpu_count|sched_getaffinity|hardware_concurrency"
OWN_COUNT = {"src/parapet/cores.py"}
SESSIONS = {"src/parapet/deployment/runtime.py", "src/parapet/deployment/footprint.py", "benchmarks/latency.py"}
THREADS = r"n_jobs\s*=\s*-|ThreadPoolExecutor\(\)|ProcessPoolExecutor\(\)|\bPool\(\)|num_workers\s*="


def _violations(text: str, name: str) -> list[str]:
    found = [match[0] for match in re.finditer(THREADS, text)]
    if name not in OWN_COUNT:
        ours = "import" in text and re.search(r"from parapet\.cores import [^\n]*\bcpu_count\b", text)
        found += [match[0] for match in re.finditer(COUNTERS, text) if not (ours and match[0] == "cpu_count()")]
        found += re.findall(r"(?:os|psutil|multiprocessing|mp|torch)\.cpu_count", text)
    if "InferenceSession(" in text and (name not in SESSIONS or "intra_op_num_threads" not in text):
        found.append("InferenceSession(")
    return found


def test_nobody_else_counts_cores_or_starts_a_thread_a_core() -> None:
    seen = 0
    for folder in ("src", "components", "pipelines", "k8s", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            seen += 1
            assert _violations(path.read_text(), str(path.relative_to(ROOT))) == [], path
    assert seen > 100


@pytest.mark.parametrize("text", [
    "import os\nos.cpu_count()", "import psutil\nworkers = psutil.cpu_count(logical=False)",
    "len(os.sched_getaffinity(0))",
    "onnxruntime.InferenceSession(str(path), options, providers=[])", "RandomForest(n_jobs=-1)",
    "with ThreadPoolExecutor() as pool:", "from os import cpu_count\ncpu_count()", "DataLoader(data, num_workers=8)"])
def test_the_sweep_sees_a_planted_one(text: str) -> None:
    assert _violations(text, "src/parapet/steps/planted.py")
    assert _violations("from parapet.cores import cpu_count\ncpu_count()", "src/parapet/steps/planted.py") == []
