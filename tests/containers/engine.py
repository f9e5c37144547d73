"""A Docker engine, a registry and a base image on a bare Debian machine: what a test of containers stands on.

Where an engine runs already, it is used. Where the base image of the Dockerfile cannot be pulled, one is made with
debootstrap and named to it as PYTHON_IMAGE.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WANTED = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", (Path(__file__).parents[2] / "components/Dockerfile").read_text(),
                   re.M)[1]
BASE = "parapet-test-python"
POSTGRES = "parapet-test-postgres:2"
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
    """Have the Dockerfile's base image, pulled, or `BASE`, made here; what `docker build` has to be told beside."""
    if _quiet("image", "inspect", WANTED) or _quiet("pull", WANTED):
        return _network()
    if _quiet("image", "inspect", BASE):
        return ["--pull=false", *_network()]
    with _debian(_PACKAGES) as root:
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        (root / "usr/bin/python").symlink_to("python3")
        if _CERTIFICATES.exists():
            shutil.copyfile(_CERTIFICATES, root / "etc/ssl/certs/ca-certificates.crt")
        _copy_pip_configuration(root)
        _import(root, BASE)
    return ["--pull=false", *_network()]


def base_arguments() -> list[str]:
    """The build argument that names `BASE`, where the Dockerfile's own image is not there."""
    return [] if _quiet("image", "inspect", WANTED) else [f"PYTHON_IMAGE={BASE}"]


def postgres_image(wanted: str) -> str:
    """The image `wanted`, PostgreSQL's own, or one that does the same where it cannot be pulled; its tag."""
    for tag in (wanted, POSTGRES):
        if _quiet("image", "inspect", tag):
            return tag
    if _quiet("pull", wanted):
        return wanted
    with _debian("postgresql,postgresql-client") as root:
        # The account that PostgreSQL's image has, and its entry point as far as it is used here.
        with (root / "etc/passwd").open("a") as accounts:
            accounts.write("official:x:999:999::/var/lib/postgresql:/bin/sh\n")
        start = root / "usr/local/bin/docker-entrypoint.sh"
        start.write_text(_POSTGRES_START)
        start.chmod(0o755)
        binaries, = root.glob("usr/lib/postgresql/*/bin")
        _import(root, POSTGRES, f"ENV PATH=/{binaries.relative_to(root)}:{_PATH}",
                'ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]', 'CMD ["postgres"]')
    return POSTGRES


# Databases and files of SQL in a fresh data directory, then what the pod wants; like PostgreSQL's own.
_POSTGRES_START = """#!/bin/sh
set -eu
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf %s "$POSTGRES_PASSWORD" > /tmp/password
  initdb --encoding=UTF8 --locale=C.UTF-8 --pgdata="$PGDATA" --username="$POSTGRES_USER" \\
    --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl --pgdata="$PGDATA" --options="-c listen_addresses=''" --wait start
  createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=ON_ERROR_STOP=1 --file="$file"
  done
  pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
fi
if [ "$1" = postgres ]; then shift; set -- postgres -D "$PGDATA" -c "listen_addresses=*" "$@"; fi
exec "$@"
"""


@contextmanager
def _debian(packages: str) -> Iterator[Path]:
    """The root of a Debian with these packages and little else."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)],
                       check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
        yield root


def _import(root: Path, tag: str, *changes: str) -> None:
    """Make a folder the image `tag`."""
    options = [word for change in changes or (f"ENV PATH={_PATH}",) for word in ("--change", change)]
    packed = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(["docker", "import", *options, "-", tag], check=True, stdin=packed.stdout,
                   stdout=subprocess.DEVNULL)
    packed.wait()


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
