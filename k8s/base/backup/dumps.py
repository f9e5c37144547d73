"""Copies dumps to the object store and back: `python dumps.py upload` and `python dumps.py fetch`, both for /backup.

A backup is a folder named by its time. It is complete when its list of checksums exists, which is written last.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

FOLDER = Path("/backup")
LIST = "sha256.json"


def upload(store: Any, bucket: str, prefix: str, keep: int) -> None:
    """Add the dumps as a new backup, then delete all but the newest `keep`, and incomplete ones."""
    dumps = sorted(FOLDER.glob("*.dump"))
    if not dumps:
        sys.exit(f"there are no dumps in {FOLDER}.")
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for dump in dumps:
        store.upload_file(str(dump), bucket, f"{prefix}/{name}/{dump.name}")
    sums = {dump.name: _sha256(dump) for dump in dumps}
    store.put_object(Bucket=bucket, Key=f"{prefix}/{name}/{LIST}", Body=json.dumps(sums).encode())
    kept = _finished(store, bucket, prefix)[-keep:]
    for key in list(_keys(store, bucket, prefix)):
        folder = key.split("/")[-2]
        # Not a backup that another pod is writing now.
        if folder not in kept and folder < name:
            store.delete_object(Bucket=bucket, Key=key)
    print(f"{name}: {', '.join(sums)}; {len(kept)} backups are kept, the oldest is {kept[0]}")


def fetch(store: Any, bucket: str, prefix: str, name: str) -> None:
    """Download the dumps of the backup `name` (empty: the newest) and compare their checksums."""
    finished = _finished(store, bucket, prefix)
    if not finished or (name and name not in finished):
        sys.exit(f"there is no backup {name or 'at all'} in s3://{bucket}/{prefix}; finished: {', '.join(finished)}.")
    name = name or finished[-1]
    body = store.get_object(Bucket=bucket, Key=f"{prefix}/{name}/{LIST}")["Body"].read()
    for dump, wanted in json.loads(body).items():
        path = FOLDER / Path(dump).name
        store.download_file(bucket, f"{prefix}/{name}/{dump}", str(path))
        if _sha256(path) != wanted:
            sys.exit(f"{dump} of the backup {name} is damaged: its checksum differs; restore another one.")
    print(f"{name} is fetched")


def main(verb: str) -> None:
    """Run `verb` with the settings in the environment."""
    bucket, _, prefix = os.environ["BACKUP_DESTINATION"].removeprefix("s3://").partition("/")
    store = boto3.client("s3", endpoint_url=os.environ.get("BACKUP_S3_ENDPOINT_URL") or None)
    if verb == "upload":
        upload(store, bucket, prefix, max(1, int(os.environ["BACKUP_KEEP"])))
    else:
        fetch(store, bucket, prefix, os.environ.get("BACKUP", ""))


def _keys(store: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        yield from (entry["Key"] for entry in page.get("Contents", []))


def _finished(store: Any, bucket: str, prefix: str) -> list[str]:
    return sorted(key.split("/")[-2] for key in _keys(store, bucket, prefix) if key.endswith(f"/{LIST}"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main(sys.argv[1])
