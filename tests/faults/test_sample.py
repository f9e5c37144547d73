"""A sample of each part that needs no finished search; the rest takes minutes: `make faults`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.processes import ROOT


def faults(work: Path, *arguments: str) -> str:
    """Run `python -m tests.faults`; its output, where there was no fault."""
    done = subprocess.run([sys.executable, "-m", "tests.faults", *arguments, "--work", str(work)], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_sample_of_the_quick_verbs_ends_well(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    said = faults(tmp_path, "kills", "full_disk", "read_only", "pairs", "clock", "--count", "3", "--verbs",
                  "data fetch,data_prep,check")
    rows = re.findall(r"^(\w+) +0 +3 +\d+ +(\d+) +(\d+) +0$", said, re.MULTILINE)
    assert len(rows) + len(re.findall(r": left out: ", said)) == 5, said
    assert len(rows) >= 3 and all(int(undisturbed) + int(sentences) == 3 for _, undisturbed, sentences in rows)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kills", "full_disk", "read_only", "damage", "pairs", "clock", "servers", "workers"])
def test_a_sample_of_every_part_ends_well(part: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    work = tmp_path_factory.getbasetemp() / "faults"
    work.mkdir(exist_ok=True)
    assert re.search(rf"^{part} +1 +5 .* 0$|: left out: ", faults(work, part, "--seed", "1", "--count", "5"),
                     re.MULTILINE)
