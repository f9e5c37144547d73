"""Download one published file over HTTP; an interrupted download is resumed."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from parapet.data.published import PublishedFile, md5
from parapet.disk import files
from parapet.errors import WorkError

# Called with the bytes done, the bytes in all (None where the server does not tell) and the name of the file.
Progress = Callable[[int, int | None, str], None]
CHUNK = 1 << 20
TIMEOUT_SECONDS = 30


def download(name: str, file: PublishedFile, target: Path, progress: Progress) -> None:
    """Download `file` of the data set `name` to its path below `target`, from the first address that serves it whole.

    An incomplete `<file>.part` is continued. The file gets its final name after its checksum was verified.
    Raises WorkError where no address serves it.
    """
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
            # The resumed part may be of another file: delete it and start once more from the beginning.
            part.unlink()
            if not resumed:
                reasons.append(f"{url}: the md5 of what it serves is not {file.md5[:12]}...")
    raise WorkError(f"{path.name} of {name} could not be downloaded ({'; '.join(reasons)}); run `parapet data fetch "
                    f"{name}` again, which resumes the download, or take a local copy with --from DIR.")


def _receive(url: str, part: Path, name: str, progress: Progress) -> None:
    """Append the missing bytes to `part`. Raises ConnectionError where the connection ends too early."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "parapet", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        # The addresses are torchvision's, and the content is compared with its checksum.
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # nosec B310
    except urllib.error.HTTPError as error:
        if done and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # `part` has all bytes or too many: its checksum decides.
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
