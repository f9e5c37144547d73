"""The report of a fault of Parapet: one file that a user can send, without secrets.

It holds the traceback, versions, the machine, the verb with its arguments, params.yaml and the last events. It holds
no environment variables; values of those that are named like secrets are removed from the text.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from parapet import __version__
from parapet.cores import cpu_count, describe
from parapet.redaction import HIDDEN, redacted

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pymoo", "safetensors", "onnx", "onnxruntime",
             "onnxscript", "mlflow", "dvc", "kfp", "kubernetes", "psutil", "rich", "plotly", "pyyaml")
_SECRET_NAMES = re.compile(r"PASS|_PWD$|SECRET|TOKEN|KEY|CREDENTIAL|AUTH(?!OR)|COOKIE|DSN|CONNECTION", re.IGNORECASE)
_IN_ADDRESSES = re.compile(r"://[^/\s:@]*:([^\s]+)@")
# Shorter values are common words, which would be removed everywhere.
_SHORTEST = 5
_PARAMS = 65_536


def write(error: BaseException, program: str, arguments: Sequence[str], environment: Mapping[str, str],
          params: Path | None, last: Iterable[str]) -> Path | None:
    """Write the report of `error` into the working directory, or into the folder of temporary files; None if both fail.

    `params` is the file of parameters that was read, `last` are the last events.
    """
    text = without_secrets(_report(error, program, arguments, params, last), environment)
    name = f"parapet-crash-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    for folder in (Path.cwd, lambda: Path(tempfile.gettempdir())):
        try:
            path = folder() / name
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return path
    return None


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """`text` redacted, and without the values of variables of `environment` that are named like secrets."""
    secrets = {value for name, value in environment.items() if _SECRET_NAMES.search(name)}
    secrets |= {found for value in environment.values() for found in _IN_ADDRESSES.findall(value)}
    secrets |= {unquote(secret) for secret in secrets}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
    return redacted(text)


def _report(error: BaseException, program: str, arguments: Sequence[str], params: Path | None,
            last: Iterable[str]) -> str:
    parts = [f"crash report of Parapet {__version__}, {datetime.now(UTC).isoformat(timespec='seconds')}",
             _section("command", "\n".join([program, *(f"  {word}" for word in arguments)])),
             _section("traceback", "".join(traceback.format_exception(error)))]
    if trace := getattr(error, "trace", None):
        parts.append(_section("traceback of the child process", trace))
    return "\n".join([*parts, _section("machine", _machine()), _section("versions", _versions()),
                      _section("parameters", _text(params)), _section("last events", "\n".join(last))])


def _section(title: str, text: str) -> str:
    return f"\n== {title} ==\n{text.rstrip() or '(nothing)'}"


def _machine() -> str:
    import psutil

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(tempfile.gettempdir())
    return "\n".join([f"{platform.platform()}, {platform.machine()}",
                      f"Python {sys.version.split()[0]} ({platform.python_implementation()})",
                      f"{describe() or f'{cpu_count()} cores'}; {_gigabytes(memory.available)} of "
                      f"{_gigabytes(memory.total)} memory and {_gigabytes(disk.free)} of the disk for temporary files "
                      "are free"])


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _versions() -> str:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "\n".join(found)


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(_PARAMS)
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
