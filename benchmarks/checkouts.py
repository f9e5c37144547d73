"""Other people's code, run from its published source: nothing of theirs is copied into this repository.

`PARAPET_PEERS` names a folder that holds checkouts under the names of `Peer.folder`.
"""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parapet.errors import InputError

VARIABLE = "PARAPET_PEERS"


@dataclass(frozen=True)
class Peer:
    """A published implementation: the folder of its checkout, where it is published, the commit it was read at."""

    folder: str
    repository: str
    commit: str


def root_of(peers: Mapping[str, Peer], root: Path | None = None) -> Path:
    """`root`, or the folder that `PARAPET_PEERS` names. Raises InputError where neither is given."""
    given = root or os.environ.get(VARIABLE)
    if not given:
        raise InputError(f"{VARIABLE} is not set; it must name a folder with checkouts of "
                         f"{', '.join(f'{peer.repository} as {peer.folder}/' for peer in peers.values())}.")
    return Path(given)


def folder_of(peer: Peer, root: Path) -> Path:
    """The checkout of `peer` below `root`. Raises InputError where it is missing."""
    folder = root / peer.folder
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; check out {peer.repository} at {peer.commit} there.")
    return folder


def commits(peers: Mapping[str, Peer], root: Path | None = None) -> dict[str, str]:
    """The commit of each peer's checkout, with a warning where it is not the one that published tables used."""
    place, found = root_of(peers, root), {}
    for name, peer in peers.items():
        folder = folder_of(peer, place)
        done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True,
                              check=False)
        found[name] = done.stdout.strip() or "unknown"
        if found[name] != peer.commit:
            warnings.warn(f"{folder} is at {found[name]}, and the published tables used {peer.commit}", stacklevel=2)
    return found
