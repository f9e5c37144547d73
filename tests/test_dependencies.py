"""What is depended on: with ranges, pinned, and for the images by hashes; all three say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pipelines import lock

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {canonicalize_name(name): version for name, version in
        (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())}
# Of those that only single verbs of make install, the versions are not kept.
PINNED = [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["server"]]


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by package, of a file of components/requirements."""
    text = (ROOT / "components/requirements" / name).read_text()
    entries = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^ ;\n]+)[^\n]*\n((?:    .*\n)*)", text, re.M)
    return {canonicalize_name(package): (version, re.findall(r"--hash=sha256:([0-9a-f]{64})", rest))
            for package, version, rest in entries}


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)])
def test_every_dependency_has_a_range(text: str) -> None:
    operators = {part.operator for part in Requirement(text).specifier}
    assert operators == {">=", "<"}, text


@pytest.mark.parametrize("text", PINNED)
def test_every_dependency_is_pinned_inside_its_range(text: str) -> None:
    wanted = Requirement(text)
    assert PINS.get(canonicalize_name(wanted.name)) in wanted.specifier, text


def test_no_package_is_pinned_twice() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len(lines) == len(PINS)


def test_the_images_install_the_versions_that_are_pinned_each_file_by_its_hash() -> None:
    files = {name: locked(f"{name}.txt") for name in ("base", "cuda", "cpu", "build")}
    for name in ("base", "cuda", "cpu"):
        assert {package: version.partition("+")[0] for package, (version, _) in files[name].items()} == {
            package: PINS[package] for package in files[name]}, f"{name}.txt: make lock"
    for name in ("base", "cuda", "build"):
        assert all(hashes for _, hashes in files[name].values()), f"{name}.txt: make lock"
    assert set(files["cpu"]) == {"torch", "torchvision"} <= set(files["cuda"])
    assert not set(files["cuda"]) & set(files["base"])
    there = set(files["base"]) | set(files["cuda"])
    for text in [*PROJECT["dependencies"], *EXTRAS["server"]]:
        assert canonicalize_name(Requirement(text).name) in there, f"{text}: make lock"
    version, _ = files["build"]["setuptools"]
    assert version in SpecifierSet(">=77")


def test_torch_and_what_comes_with_cuda_is_a_file_of_its_own() -> None:
    text = ("numpy==2.4.6 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
            "nvidia-cublas==13.4.1.3 ; sys_platform == 'linux' \\\n    --hash=sha256:cc\n"
            "torch==2.15.0 \\\n    --hash=sha256:dd\nwrapt==2.5.2 \\\n    --hash=sha256:ee\n")
    base, cuda = lock.split(text)
    assert base.startswith("numpy==2.4.6") and "sha256:bb" in base and base.endswith("sha256:ee\n")
    assert cuda.startswith("nvidia-cublas") and "torch==2.15.0" in cuda and "numpy" not in cuda
