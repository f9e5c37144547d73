"""A PostgreSQL of a test's own, which can be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if found:
        return found[-1]
    return Path(initdb).parent if (initdb := shutil.which("initdb")) else None


class Database:
    """Its files lie where another user can reach them, because PostgreSQL refuses to run as root."""

    def __init__(self) -> None:
        self.programs = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="parapet-postgresql.", dir="/tmp"))
        self.process: subprocess.Popen | None = None
        self.prefix: list[str] = []
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"postgresql://mlflow@127.0.0.1:{self.port}/postgres"
        subprocess.run([*self.prefix, self.programs / "initdb", "-D", self.folder / "data", "-U", "mlflow",
                        "--auth=trust", "--no-sync"], check=True, capture_output=True, cwd=self.folder)

    def start(self) -> None:
        """Start it, or leave it running."""
        if self.process is not None:
            return
        self.process = subprocess.Popen(
            [*self.prefix, self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k",
             self.folder, "-c", "listen_addresses=127.0.0.1"], cwd=self.folder, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ready = [self.programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        until = time.monotonic() + 60
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            if time.monotonic() > until:
                raise TimeoutError("PostgreSQL did not start")
            time.sleep(0.1)

    def kill(self) -> None:
        """As when its machine goes away: its processes end at once, and its files are as they are."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            (self.folder / "data/postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """End it and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
