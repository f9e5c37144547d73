"""What a project folder holds, without what no two runs have in common: to be compared with an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from parapet.disk import sealed_tensors

# Times, what is timed, and names that are drawn; "Infinity" of a digest would be a digest all the same.
_VOLATILE = re.compile(r"seconds|latency|throughput|^time$|started|created|^date|machine|^run_id$|_run_id$|tracking_uri"
                       r"|experiment_id|^busy|footprint|^after$|device_seconds|^torch$|images_per_second"
                       # Digests of what holds times; `files` of an evaluation has those of weights and graph.
                       r"|^checksum$|^last$|^sha256$")
# What stays in place for whoever comes next, what a verb says for people, and onnxruntime's session file.
_PASSED_OVER = re.compile(r"\.lock$|^\.parapet/(locks|latency)/|^mlflow\.db|^mlruns/|^\.parapet/outbox-said\.txt$"
                          r"|^\.parapet/outbox/(queue\.db-journal$|rejected/queue-)|__pycache__|^\.git/|^tmp/\.ses$")
# Left by who was killed and swept by nobody.
_STALE = re.compile(r"\.part(/|$)|(^|/)search\.pid$|\.state(/|$)|checkpoint\.safetensors$")
# These hold latencies or digests of files that do: they have to be there, and be no shorter than a few bytes.
_TIMED = re.compile(r"^artifacts/(report|plots|onnx)/|\.onnx$|^artifacts/metrics\.json$|(^|/)digests\.json$")


def state(place: Path) -> dict[str, Any]:
    """Everything that counts below `place`, by a readable name."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if not path.is_file() or _PASSED_OVER.search(name) or _STALE.search(name):
            continue
        if name == ".parapet/outbox/queue.db":
            with closing(sqlite3.connect(path)) as connection:
                if waiting := [key for key, in connection.execute("SELECT key FROM waiting ORDER BY key")]:
                    found["waiting for MLflow"] = waiting
        elif _TIMED.search(name):
            found[name] = "there" if path.stat().st_size > 8 else "empty"
        elif path.suffix == ".json":
            found |= {f"{name}: {key}": value for key, value in _flat(json.loads(path.read_text()))}
        elif path.suffix == ".jsonl":
            lines = [json.loads(line)["record"] for line in path.read_text().splitlines()]
            found |= {f"{name}: {key}": value for key, value in _flat({line["id"] + f" {line['looks']}": line
                                                                       for line in lines})}
            found[f"{name}: lines"] = len(lines)
        elif "/state/" in name and path.suffix == ".safetensors":
            # Beside the tensors it says how long they took.
            found[name] = sealed_tensors.digest(sealed_tensors.load(path)[0], "")
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    if (place / "mlflow.db").exists():
        found |= _tracked(place / "mlflow.db", place / "mlruns")
    return found


def stale(place: Path) -> list[str]:
    """Files that a finished verb has no use for."""
    return sorted(name for path in place.rglob("*")
                  if _STALE.search(name := path.relative_to(place).as_posix()))


# Tags whose values hold an id that MLflow draws: MLmodel names its own.
_DRAWN = ("parapet.logged_model", "parapet.sha256.MLmodel")


def differences(wanted: dict[str, Any], found: dict[str, Any], most: int = 6) -> list[str]:
    """How two states differ, each as a short line."""
    lines = []
    for name in sorted(wanted.keys() | found.keys()):
        one, other = wanted.get(name, "nothing"), found.get(name, "nothing")
        if one != other and isinstance(one, list) and isinstance(other, list):
            gone, new = ([item for item in this if item not in that] for this, that in ((one, other), (other, one)))
            lines.append(f"{name}: {len(one)} when undisturbed and {len(other)} now; only then {str(gone)[:200]}, only "
                         f"now {str(new)[:200]}")
        elif one != other:
            lines.append(f"{name}: {str(one)[:120]} when undisturbed, {str(other)[:120]} now")
    more = len(lines) - most
    return lines[:most] + ([f"and {more} more"] if more > 0 else [])


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not _VOLATILE.search(str(key)):
                yield from _flat(inner, f"{place}/{key}")
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        yield f"{place}/length", len(value)
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{place}/{index}")
    else:
        yield place, value


def _tracked(database: Path, artifacts: Path) -> dict[str, Any]:
    """Runs, models, aliases and versions of MLflow's SQLite file, without its own ids and times."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        def rows(text: str) -> list[tuple]:
            try:
                return connection.execute(text).fetchall()
            except sqlite3.OperationalError:
                return []  # a table that this MLflow does not have yet

        found: dict[str, Any] = {}
        tags = {(run, key): value for run, key, value in rows("SELECT run_uuid, key, value FROM tags")}
        names = {run: tags.get((run, "candidate")) or name for run, name in rows("SELECT run_uuid, name FROM runs")}
        runs = [(names[run], status, stage, names.get(tags.get((run, "mlflow.parentRunId"))),
                 tags.get((run, "on_front"))) for run, status, stage in
                rows("SELECT run_uuid, status, lifecycle_stage FROM runs")]
        found["MLflow runs"] = sorted(map(str, runs))
        found["MLflow metrics"] = sorted({f"{names[run]} {key}" for run, key in
                                          rows("SELECT run_uuid, key FROM latest_metrics")})
        found["MLflow files"] = sorted(f"{names[run]} {path.relative_to(artifacts / run)}" for run in names
                                       for path in (artifacts / run).rglob("*") if path.is_file())
        versions = {}
        for model, number, stage in rows("SELECT name, version, current_stage FROM model_versions"):
            if stage != "Deleted_Internal":
                versions[model, number] = dict(rows("SELECT key, value FROM model_version_tags WHERE name = "
                                                    f"'{model}' AND version = {number}"))
        # A number that was drawn by a killed promotion is never drawn again.
        found["MLflow versions"] = sorted(f"{model} {values.get('candidate')}" for (model, _), values
                                          in versions.items())
        found["MLflow tags of versions"] = sorted(
            f"{model} {values.get('candidate')} {key} {'some' if key in _DRAWN else value}"
            for (model, _), values in versions.items()
            for key, value in values.items() if key not in ("parapet.ticket", "gate.champion", "latency_p50_ms"))
        found["MLflow aliases"] = sorted(
            f"{model} {alias} {versions.get((model, number), {}).get('candidate', 'no version')}" for model, alias,
            number in rows("SELECT name, alias, version FROM registered_model_aliases"))
        found["MLflow logged models"] = len(rows("SELECT 1 FROM logged_models WHERE lifecycle_stage = 'active'"))
        found["MLflow registered models"] = sorted(name for name, in rows("SELECT name FROM registered_models"))
        return found
