"""Bring a published data set into a folder: from the network, resumable, or from a local copy.

No file gets its final name before its published checksum holds.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import ssl
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from parapet import files
from parapet.data import digits
from parapet.data.published import Published, PublishedFile, check_name, md5, places, published
from parapet.errors import InputError, WorkError, closed_place, is_closed, is_disk_full, is_no_place, no_place
from parapet.quoting import name as quoted

Progress = Callable[[int, int | None, str], None]
CHUNK = 1 << 20
TIMEOUT_SECONDS = 30


def fetch(name: str, root: Path, source: Path | None = None, progress: Progress | None = None) -> Path:
    """Put the data set `name` into `root`/`name`, in torchvision's layout, and return that folder.

    Files that are there and whole are left alone; damaged ones are replaced. With `source`, a local folder in the
    same layout, the files are copied from it; without, they come from the addresses that torchvision publishes, and
    a download that broke off goes on where it was. `digits` is written from scikit-learn and needs no network.
    progress(bytes done, bytes in all or None where the server does not say, file name) is called about once a MiB.

    Raises InputError for an unknown name, for a `source` that lacks a file or holds a damaged one, for a folder that
    may not be written or cannot be one, and while another process brings the same; WorkError where the disk is full
    or a download fails.
    """
    check_name(name)
    target = Path(root) / name
    progress = progress or _silent
    with _explained(name, target, source and Path(source)):
        if name == "digits":
            _fetch_digits(target, source)
        else:
            with _alone(name, target):
                _fetch_published(published(name), target, source, progress)
    return target


@contextmanager
def _alone(name: str, target: Path) -> Iterator[None]:
    """Refuse a second process that brings the same: both would write one file that is half there.

    The folder itself is locked, so that nothing is added to it, and the kernel lets go where the process ends.
    """
    target.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(f"another process is bringing {name} to {target}; wait for its end, or give another folder "
                         "with --root.") from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(descriptor)


def _fetch_digits(target: Path, source: Path | None) -> None:
    try:
        digits.read(target)
    except InputError:
        if source is None:
            digits.export(target)
            return
        base = next((place for place in places("digits", [source]) if (place / "dataset.json").exists()), None)
        if base is None:
            raise InputError(f"digits is not in {source}; name a folder that holds its dataset.json, or leave --from "
                             "away to write it from scikit-learn.") from None
        digits.write(target, *digits.read(base))


def _fetch_published(wanted: Published, target: Path, source: Path | None, progress: Progress) -> None:
    if source is not None:
        _copy(wanted, target, Path(source), progress)
    elif wanted.archive is None:
        for file in wanted.files:
            if not file.is_whole(target):
                _download(wanted.name, file, target, progress)
    elif not all(file.is_whole(target) for file in wanted.files):
        found = wanted.archive.is_whole(target)
        if not found:
            _download(wanted.name, wanted.archive, target, progress)
        _unpack(wanted, target / wanted.archive.path, target, progress)
        if not found:  # whoever put it there keeps it
            (target / wanted.archive.path).unlink()


def _copy(wanted: Published, target: Path, source: Path, progress: Progress) -> None:
    where = places(wanted.name, [source])
    base = wanted.find(where)
    if base is None:
        _copy_archive(wanted, target, source, where, progress)
        return
    for file, form in zip(wanted.files, wanted.present(base)):
        if form is None:
            raise InputError(f"{base / file.path} is missing; complete that folder, or leave --from away to download "
                             f"{wanted.name}.")
        if not form.is_whole(target):
            origin = base / form.path
            with origin.open("rb") as stream:
                _place(stream, origin.stat().st_size, form, target, origin, progress)


def _copy_archive(wanted: Published, target: Path, source: Path, where: list[Path], progress: Progress) -> None:
    archive = wanted.archive
    base = next((place for place in where if archive and (place / archive.path).is_file()), None)
    if archive is None or base is None:
        raise InputError(f"{wanted.name} is not in {source} ({wanted.files[0].path} is not there); name a folder that "
                         "holds it in torchvision's layout, or leave --from away to download it.")
    if not archive.is_whole(base):
        raise InputError(f"{base / archive.path} is damaged: its md5 is not {archive.md5[:12]}...; "
                         "replace it, or leave --from away to download it.")
    _unpack(wanted, base / archive.path, target, progress)


def _unpack(wanted: Published, archive: Path, target: Path, progress: Progress) -> None:
    """Take the files of the data set, and nothing else, out of a tar file whose checksum holds.

    No name in the archive becomes a path: only the names that torchvision publishes are looked at, and the `data`
    filter of PEP 706 refuses links and devices under those.
    """
    by_path = {file.path: file for file in wanted.files}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in by_path:
                member = tarfile.data_filter(member, str(target))
                stream = tar.extractfile(member)
                if stream is None:
                    raise InputError(f"{archive} is damaged: {member.name} is no file in it; replace it, or leave "
                                     "--from away to download it.")
                with stream:
                    _place(stream, member.size, by_path[member.name], target, archive, progress)


def _place(stream: IO[bytes], size: int, file: PublishedFile, target: Path, origin: Path, progress: Progress) -> None:
    """Copy a stream of `size` bytes to its place below `target`, if it has the published checksum."""
    path = target / file.path
    digest = md5()
    done = 0
    with files.replacing(path) as partial:
        with partial.open("wb") as out:
            while chunk := stream.read(CHUNK):
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress(done, size, path.name)
        if digest.hexdigest() != file.md5:
            raise InputError(f"{origin} is damaged: the md5 of {path.name} is {digest.hexdigest()[:12]}..., and "
                             f"{file.md5[:12]}... is right; replace it, or leave --from away to download it.")


def _download(name: str, file: PublishedFile, target: Path, progress: Progress) -> None:
    """Bring one file from the first address that gives it whole, going on from `<file>.part` where there is one."""
    path = target / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    reasons = []
    for url in file.urls:
        resumed = True
        while resumed:
            resumed = part.exists() and part.stat().st_size > 0
            try:
                _receive(url, part, path.name, progress)
            except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError,
                    ConnectionError) as error:
                reasons.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
                break
            if files.file_digest(part, md5) == file.md5:
                part.replace(path)
                return
            # What was resumed may have begun as another file: once more from the start before giving up.
            part.unlink()
            if not resumed:
                reasons.append(f"{url}: the md5 of what it serves is not {file.md5[:12]}...")
    raise WorkError(f"{path.name} of {name} could not be downloaded ({'; '.join(reasons)}); run `parapet data fetch "
                    f"{name}` again, which goes on where it was, or take a local copy with --from DIR.")


def _receive(url: str, part: Path, name: str, progress: Progress) -> None:
    """Append to `part` what the server still has to send. Raises ConnectionError where it stops before the end."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "parapet", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    try:
        asked = urllib.request.Request(url, headers=headers)
        # Addresses are written in the code, and what comes is compared with its checksum.
        response = urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS)  # nosec B310
    except urllib.error.HTTPError as error:
        if done and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # There is nothing after what is here already: the checksum says whether it is the file.
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0
        total = None if response.length is None else done + response.length
        with part.open("ab" if done else "wb") as out:
            while chunk := response.read(CHUNK):
                out.write(chunk)
                done += len(chunk)
                progress(done, total, name)
    if total is not None and done < total:
        raise ConnectionError(f"the connection broke off after {done} of {total} bytes")


@contextmanager
def _explained(name: str, target: Path, source: Path | None) -> Iterator[None]:
    """Say in one sentence what the operating system refuses, and what to do about it."""
    try:
        yield
    except OSError as error:
        again = f"then run `parapet data fetch {name}` again, which goes on where it was"
        start = f"{name} could not be brought to {quoted(str(target))}"
        if is_disk_full(error):
            raise WorkError(f"{start}: the disk is full; make room, {again}.") from None
        if is_no_place(error):
            raise InputError(f"{start}: {str(no_place(error)).removesuffix('.')}; {again}.") from None
        if is_closed(error):
            raise InputError(f"{start}: {closed_place(error)}; mend its permissions, or give another folder with "
                             f"{'--from' if _is_below(error.filename, source) else '--root'}, {again}.") from None
        raise WorkError(f"{start}: {' '.join(str(error).split())}; mend that, {again}.") from None


def _is_below(path: object, folder: Path | None) -> bool:
    return folder is not None and isinstance(path, str) and (folder == Path(path) or folder in Path(path).parents)


def _silent(done: int, total: int | None, name: str) -> None:
    """The progress of a caller who wants none."""
