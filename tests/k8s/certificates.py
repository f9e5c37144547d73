"""Certificates as k8s/certificates.sh makes them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "k8s/certificates.sh"


def made(folder: Path) -> Path:
    """An authority and what it signed in `folder`; returns `folder`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(["sh", SCRIPT, folder], check=True, capture_output=True)
    return folder
