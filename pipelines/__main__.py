"""The command `python -m pipelines`: the only place here that knows working directory, environment and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from components.image import IMAGE
from parapet import cli
from parapet.config import Params, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code, as `parapet` does (0 done, 1 failed, 2 wrong input, 130 interrupted)."""
    options = _parse(arguments)
    return cli.guarded("pipelines", lambda: options.verb(options),
                       "every task was ended, and the same command starts again")


def _compile(options: argparse.Namespace) -> int:
    from pipelines.compiling import compile_pipeline

    params = load(options.params)
    compile_pipeline(params, options.image, options.out)
    print(f"{options.out}: {params.search.generations} generations of {params.search.population}, image "
          f"{options.image}")
    return 0


def _local(options: argparse.Namespace) -> int:
    from pipelines import local
    from pipelines.robust_search import build

    params = load(options.params)
    build(params, IMAGE)  # what cannot be built is refused before anything runs
    if code := cli.main(["check", "--params", str(options.params), "--out", str(options.out)]):
        return code
    print(f"report  {local.run(params, options.out, _data_root(params))}")
    return 0


def _data_root(params: Params) -> str:
    """The folders of data sets, absolute; PARAPET_DATA goes before data.root."""
    roots = [os.environ.get("PARAPET_DATA"), params.data.root]
    return ":".join(str(Path(root).resolve()) for root in roots if root)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines", description="The search on Kubeflow Pipelines.")
    sub = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = sub.add_parser(name, help=text, description=text)
        added.set_defaults(verb=function)
        added.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE",
                           help="parameters (default: params.yaml)")
        return added

    compiling = verb("compile", _compile, "write the pipeline as YAML for Kubeflow")
    compiling.add_argument("--image", default=IMAGE, help=f"image that runs every step (default: {IMAGE})")
    compiling.add_argument("--out", type=Path, default=Path("pipelines/compiled/robust_search.yaml"), metavar="FILE",
                           help="file to write (default: pipelines/compiled/robust_search.yaml)")

    local = verb("local", _local, "run the pipeline on this machine with kfp.local")
    local.add_argument("--out", type=Path, default=Path("runs/pipeline"), metavar="DIR",
                       help="folder for everything the run makes (default: runs/pipeline)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
