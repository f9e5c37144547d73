"""`make lock`: writes the packages of the images with their hashes to components/requirements, from constraints.txt.

`base.txt` is for both images, `cuda.txt` is torch with CUDA's libraries, from the ordinary index, `cpu.txt` torch from
PyTorch's own index for CPUs, and `build.txt` what makes Parapet's wheel. For Linux on x86-64 and the Python of the
Dockerfile. `python -m pipelines.lock --torch-index URL` adds hashes to `cpu.txt` too, where that index can be reached.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path("components/requirements")
PLATFORM = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
_HEAD = "# Made by `make lock` from pyproject.toml and constraints.txt; {}.\n"
_BUILD = "setuptools>=77\n"
# Packages of the CUDA build of torch that its build for CPUs does not need.
_CUDA = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)==")


def split(compiled: str) -> tuple[str, str]:
    """(entries that both images need, entries of torch with the CUDA libraries) of a compiled file."""
    entries = re.findall(r"^[A-Za-z0-9].*\n(?:    .*\n)*", compiled, re.M)
    return ("".join(entry for entry in entries if not _CUDA.match(entry)),
            "".join(entry for entry in entries if _CUDA.match(entry)))


def main(arguments: list[str] | None = None) -> int:
    """Write the four files and return 0; exits with the code of the first uv call that fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch-index", metavar="URL", help="PyTorch's index for CPUs, for the hashes of its files")
    options = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    base, cuda = split(_compiled(["pyproject.toml", "--extra", "server"]))
    _write("base.txt", "what both images install", base)
    _write("cuda.txt", "torch with CUDA's libraries", cuda)
    _write("build.txt", "what makes the wheel", split(_compiled(["-"], _BUILD))[0])
    names = [line for line in Path("constraints.txt").read_text().splitlines()
             if re.match(r"(torch|torchvision)==", line)]
    cpu = "".join(f"{name}\n" for name in names)
    if options.torch_index:
        cpu = split(_compiled(["-", "--no-deps", "--index-url", options.torch_index], cpu))[1]
    _write("cpu.txt", "torch of PyTorch's index for CPUs", cpu)
    return 0


def _write(name: str, what: str, text: str) -> None:
    (FOLDER / name).write_text(_HEAD.format(what) + text)


def _compiled(words: list[str], text: str = "") -> str:
    done = subprocess.run([sys.executable, "-m", "uv", "pip", "compile", *words, "-c", "constraints.txt", "--quiet",
                           "--generate-hashes", "--no-header", "--no-annotate", *PLATFORM], input=text, text=True,
                          stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"uv could not find what the images install; what it printed above says why (code {done.returncode}).")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
