"""The image that every test here runs, built once from this tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import images
from tests.containers import engine

ROOT = Path(__file__).parents[2]
# The ordinary index has torch too, for those whom PyTorch's own does not reach.
INDEX = os.environ.get("PARAPET_TORCH_INDEX", "https://pypi.org/simple")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[images.Image]:
    """The target cpu, built from this tree and in a registry on loopback."""
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        with engine.engine(), engine.registry() as there:
            if tag := os.environ.get("PARAPET_TEST_IMAGE"):  # built before, while tests are written
                yield images.Image("cpu", tag, size=0)
                return
            options = engine.base_image()
            built = images.build("cpu", name="parapet-test", options=options,
                                 arguments=[*images.torch_from(INDEX), *engine.base_arguments()])
            images.bill_of_materials(built, tmp_path_factory.mktemp("sbom") / "sbom.json")
            print(f"{built.tag}: {built.size / 1e9:.2f} GB")
            yield images.push(built, there)
    finally:
        os.chdir(before)
