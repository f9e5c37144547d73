"""A Docker engine, a registry and a base image on a bare Debian machine: what a test of containers stands on.

Where an engine runs already, it is used. Where the base image cannot be pulled, one is made with debootstrap and takes
its name, so that the Dockerfile needs no change.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BASE = "python:3.11-slim"
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def missing() -> str | None:
    """Why containers cannot be tested here; None where they can."""
    if shutil.which("docker") is None:
        return "docker is not installed (Debian: apt-get install docker.io)"
    if _answers() or (shutil.which("dockerd") and os.getuid() == 0):
        return None
    return "no Docker engine runs, and none can be started here (root and Debian's docker.io are needed)"


@contextmanager
def engine() -> Iterator[None]:
    """An engine that answers; started, and ended, where none runs."""
    if _answers():
        yield
        return
    log = Path(tempfile.gettempdir()) / "parapet-dockerd.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(["dockerd"], stdout=stream, stderr=stream, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while not _answers():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"dockerd did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def registry() -> Iterator[str]:
    """Debian's docker-registry on loopback, which gives images their digests; its HOST:PORT."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yml"
        config.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
                          f"http: {{addr: 127.0.0.1:{port}}}\nlog: {{level: error}}\n")
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 30
            while time.monotonic() < until:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def base_image() -> list[str]:
    """Have `BASE`, pulled or made here; what `docker build` has to be told beside."""
    if _quiet("image", "inspect", BASE):
        return ["--pull=false", *_network()]
    if _quiet("pull", BASE):
        return _network()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root)],
                       check=True, stdout=subprocess.DEVNULL)
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        (root / "usr/bin/python").symlink_to("python3")
        if _CERTIFICATES.exists():
            shutil.copyfile(_CERTIFICATES, root / "etc/ssl/certs/ca-certificates.crt")
        _copy_pip_configuration(root)
        shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
        packed = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(["docker", "import", "--change", f"ENV PATH={_PATH}", "-", BASE], check=True,
                       stdin=packed.stdout, stdout=subprocess.DEVNULL)
        packed.wait()
    return ["--pull=false", *_network()]


def _copy_pip_configuration(root: Path) -> None:
    """This machine's way to its package index, if it has one of its own."""
    for place in (Path("/etc/pip.conf"), Path("~/.config/pip/pip.conf").expanduser()):
        if place.exists():
            shutil.copyfile(place, root / "etc/pip.conf")
            return


def _network() -> list[str]:
    # Through the host's, because a bare machine's bridge may not be routed.
    return ["--network=host"]


def _answers() -> bool:
    return _quiet("info")


def _quiet(*words: str) -> bool:
    return subprocess.run(["docker", *words], capture_output=True, check=False).returncode == 0
