"""Compiles parameters to the YAML that Kubeflow reads; equal parameters give equal bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from parapet.config import Params
from parapet.disk.files import write_text
from pipelines.resources import Resources
from pipelines.robust_search import build


def compile_pipeline(params: Params, image: str, out: Path, resources: Resources | None = None) -> None:
    """Compile the search for a cluster and write it to the file `out`."""
    write(build(params, image, resources or Resources()), out)


def write(pipeline: Callable[..., Any], out: Path) -> None:
    """Compile `pipeline` to the file `out`."""
    from kfp import compiler

    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        write_text(out, compiled.read_text(encoding="utf-8"))
