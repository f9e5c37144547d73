"""Put a published data set into a folder: from the network or from a local copy.

No file gets its final name before its published checksum was verified.
"""

from __future__ import annotations

import fcntl
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from parapet.data import digits
from parapet.data.download import CHUNK, Progress, download
from parapet.data.published import Published, PublishedFile, check_name, md5, places, published
from parapet.disk import files
from parapet.errors import InputError, WorkError, closed_place, is_closed, is_disk_full, is_no_place, no_place
from parapet.quoting import name as quoted


def fetch(name: str, root: Path, source: Path | None = None, progress: Progress | None = None) -> Path:
    """Put the data set `name` into `root`/`name`, in torchvision's layout, and return that folder.

    Complete files are kept and damaged ones are replaced. The files are copied from `source`, a local folder in the
    same layout; without it they are downloaded from the addresses that torchvision publishes, and an interrupted
    download is resumed. `digits` is written from scikit-learn and needs no network. `progress` is called about once a
    MiB.

    Raises InputError for an unknown name, for a `source` with a missing or damaged file, for a folder that cannot be
    created or written, and while another process fetches the same data set; WorkError where the disk is full or a
    download fails.
    """
    check_name(name)
    target = Path(root) / name
    progress = progress or (lambda done, total, name: None)
    with _explained(name, target, source and Path(source)):
        if name == "digits":
            _fetch_digits(target, source)
        else:
            with _locked(name, target):
                _fetch_published(published(name), target, source, progress)
    return target


@contextmanager
def _locked(name: str, target: Path) -> Iterator[None]:
    """Lock the folder `target`; InputError where another process holds the lock: both would write the same .part file.

    The folder itself is locked, so no lock file is added to it. The kernel releases the lock of a process that ends.
    """
    target.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(f"another process is fetching {name} to {target}; wait until it ends, or give another "
                         "folder with --root.") from None
    except OSError:
        pass  # the file system has no locks
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
                             "out to write it from scikit-learn.") from None
        digits.write(target, *digits.read(base))


def _fetch_published(wanted: Published, target: Path, source: Path | None, progress: Progress) -> None:
    if source is not None:
        _copy(wanted, target, Path(source), progress)
    elif wanted.archive is None:
        for file in wanted.files:
            if not file.is_whole(target):
                download(wanted.name, file, target, progress)
    elif not all(file.is_whole(target) for file in wanted.files):
        was_there = wanted.archive.is_whole(target)
        if not was_there:
            download(wanted.name, wanted.archive, target, progress)
        _unpack(wanted, target / wanted.archive.path, target, progress)
        if not was_there:
            (target / wanted.archive.path).unlink()


def _copy(wanted: Published, target: Path, source: Path, progress: Progress) -> None:
    where = places(wanted.name, [source])
    base = wanted.find(where)
    if base is None:
        _copy_archive(wanted, target, source, where, progress)
        return
    for file, form in zip(wanted.files, wanted.present(base)):
        if form is None:
            raise InputError(f"{base / file.path} is missing; complete that folder, or leave --from out to download "
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
                         "holds it in torchvision's layout, or leave --from out to download it.")
    if not archive.is_whole(base):
        raise InputError(f"{base / archive.path} is damaged: its md5 is not {archive.md5[:12]}...; "
                         "replace it, or leave --from out to download it.")
    _unpack(wanted, base / archive.path, target, progress)


def _unpack(wanted: Published, archive: Path, target: Path, progress: Progress) -> None:
    """Extract the files of the data set, and nothing else, from a tar file with a verified checksum.

    No name in the archive becomes a path: only members with the names that torchvision publishes are extracted, and
    the `data` filter of PEP 706 refuses links and devices among them.
    """
    by_path = {file.path: file for file in wanted.files}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in by_path:
                member = tarfile.data_filter(member, str(target))
                stream = tar.extractfile(member)
                if stream is None:
                    raise InputError(f"{archive} is damaged: {member.name} is not a file in it; replace it, or leave "
                                     "--from out to download it.")
                with stream:
                    _place(stream, member.size, by_path[member.name], target, archive, progress)


def _place(stream: IO[bytes], size: int, file: PublishedFile, target: Path, origin: Path, progress: Progress) -> None:
    """Copy a stream of `size` bytes to its path below `target`; InputError unless it has the published checksum."""
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
                             f"{file.md5[:12]}... is right; replace it, or leave --from out to download it.")


@contextmanager
def _explained(name: str, target: Path, source: Path | None) -> Iterator[None]:
    """Turn an error of the operating system into one sentence: what failed, and what to do about it."""
    try:
        yield
    except OSError as error:
        again = f"then run `parapet data fetch {name}` again, which resumes the work"
        start = f"{name} could not be fetched to {quoted(str(target))}"
        if is_disk_full(error):
            raise WorkError(f"{start}: the disk is full; free some space, {again}.") from None
        if is_no_place(error):
            raise InputError(f"{start}: {str(no_place(error)).removesuffix('.')}; {again}.") from None
        if is_closed(error):
            raise InputError(f"{start}: {closed_place(error)}; correct its permissions, or give another folder with "
                             f"{'--from' if _is_below(error.filename, source) else '--root'}, {again}.") from None
        raise WorkError(f"{start}: {' '.join(str(error).split())}; correct that, {again}.") from None


def _is_below(path: object, folder: Path | None) -> bool:
    return folder is not None and isinstance(path, str) and (folder == Path(path) or folder in Path(path).parents)
