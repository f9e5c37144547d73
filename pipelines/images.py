"""Builds the images that the steps run in, prints their sizes, pushes them on request, and writes their SBOMs.

    python -m pipelines.images --target cpu
    python -m pipelines.images --registry registry.example/team

An image is referred to by its digest, which only a registry gives: with --registry each line ends with the reference
that `python -m pipelines compile --image` takes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from parapet import __version__, cli
from parapet.cli.arguments import Parser
from parapet.cli.tracking import git_revision
from parapet.disk.files import write_text
from parapet.errors import InputError, WorkError

TARGETS = ("cpu", "cuda")
# The files and folders that the Dockerfile copies.
CONTEXT = ("pyproject.toml", "README.md", "components/requirements", "src", "data")
_DOCKERFILE = "components/Dockerfile"


@dataclass(frozen=True)
class Image:
    """A built image: its target, its tag, its size in bytes, and its reference by digest, None before it is pushed."""

    target: str
    tag: str
    size: int
    reference: str | None = None


def build(target: str, *, name: str = "parapet", arguments: Sequence[str] = (), options: Sequence[str] = ()) -> Image:
    """Build `target` from the working directory as `name`:`target`.

    `arguments` are build arguments, NAME=VALUE; `options` are further options of `docker build`. Raises WorkError where
    the build fails, and InputError where the default data set has not been pulled or docker is not installed.
    """
    if not any(Path("data").glob("*/*")):
        raise InputError("data/ is empty, and the image holds the default data set; run `dvc pull data.dvc` first.")
    tag = f"{name}:{target}"
    given = [f"REVISION={git_revision()}", f"VERSION={__version__}", *arguments]
    with TemporaryDirectory() as folder:
        # Copied into a small context, because only BuildKit reads a Dockerfile's own .dockerignore, and the working
        # directory may contain gigabytes.
        for part in CONTEXT:
            copy = shutil.copytree if Path(part).is_dir() else shutil.copyfile
            (Path(folder) / part).parent.mkdir(parents=True, exist_ok=True)
            copy(part, Path(folder) / part)
        _docker("build", "-f", _DOCKERFILE, "--target", target, "-t", tag,
                *(word for argument in given for word in ("--build-arg", argument)), *options, folder)
    return Image(target, tag, int(_inspect(tag, "{{.Size}}")))


def torch_from(index: str) -> list[str]:
    """The build arguments of the target cpu with torch from `index`: PyTorch's CPU index (.../cpu) or any other index.
    """
    return [f"TORCH_INDEX={index}"] + ([] if index.rstrip("/").endswith("cpu") else ["TORCH_REQUIREMENTS=cuda.txt"])


def push(image: Image, registry: str) -> Image:
    """Push an image to `registry`; returns the image with its reference by digest. Raises WorkError where it fails."""
    there = f"{registry}/{image.tag}"
    _docker("tag", image.tag, there)
    _docker("push", there)
    digests = json.loads(_inspect(there, "{{json .RepoDigests}}"))
    repository = there.rpartition(":")[0]
    return Image(image.target, image.tag, image.size, next(found for found in digests if found.startswith(repository)))


def bill_of_materials(image: Image, path: Path) -> None:
    """Write the packages installed in an image to `path`, as CycloneDX JSON (an SBOM). Raises WorkError on failure."""
    frozen = _output("run", "--rm", image.tag, "python", "-m", "pip", "freeze", "--all")
    lines = [line for line in frozen.splitlines() if "==" in line]
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "-", "--of", "JSON", "--output-reproducible"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkError(f"the SBOM of {image.tag} was not made: {' '.join(done.stderr.split())[-300:]}; install it "
                        "with `pip install -e '.[images]'`.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, done.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the images, write their SBOMs and push them; returns the exit code."""
    parser = Parser(prog="python -m pipelines.images", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--name", default="parapet", help="name of the images (default: parapet)")
    parser.add_argument("--registry", metavar="HOST/PATH", help="push there, and print references by digest")
    parser.add_argument("--torch-index", metavar="URL", help="where the target cpu takes torch from")
    parser.add_argument("--docker-option", action="append", default=[], metavar="WORD",
                        help="one more word for `docker build`, for example --docker-option=--pull=never")
    parser.add_argument("--sbom", type=Path, default=Path("build/sbom"), metavar="DIR",
                        help="folder of the SBOMs (default: build/sbom)")
    options = parser.parse_args(arguments)

    def run() -> None:
        index = torch_from(options.torch_index) if options.torch_index else []
        for target in options.target:
            image = build(target, name=options.name, arguments=index, options=options.docker_option)
            bill_of_materials(image, options.sbom / f"{options.name}-{target}.json")
            if options.registry:
                image = push(image, options.registry)
            reference = image.reference or "(no registry, no digest)"
            print(f"{image.tag}  {image.size / 1e9:.2f} GB  {reference}", flush=True)
    return cli.guarded("pipelines.images", run)


def _docker(*words: str) -> None:
    try:
        done = subprocess.run(["docker", *words], check=False)
    except FileNotFoundError:
        raise InputError("docker is not installed; images are built with it.") from None
    if done.returncode:
        raise WorkError(f"docker {words[0]} failed with code {done.returncode}; what it printed above says why.")


def _output(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkError(f"docker {words[0]} failed: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def _inspect(tag: str, form: str) -> str:
    return _output("image", "inspect", "--format", form, tag).strip()


if __name__ == "__main__":
    sys.exit(main())
