"""Verifies the artifacts of a run: the files are unchanged, and their numbers follow from one another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parapet import schemas
from parapet.data.info import check_files, read_info
from parapet.disk import sealed, sealed_tensors
from parapet.disk.files import file_digest, read_json
from parapet.errors import InputError, told
from parapet.report.dvc_plots import metrics
from parapet.search.front import front, hypervolume_curve
from parapet.search.schedule import trained_from_scratch
from parapet.store import archive, results, search_folder
from parapet.store.consistency import audit_problems
from parapet.store.consistency import problems as contradictions
from parapet.store.front_file import read as read_front
from parapet.store.records import latest
from parapet.store.search_folder import SearchFolder

_AGAIN = "the step that wrote it will create it again"
_ID = "[0-9a-f]" * 12


@dataclass
class Findings:
    """The numbers of files checked and of evaluations recomputed, and one line for each problem."""

    files: int = 0
    evaluations: int = 0
    problems: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[..., Any], *given: Any) -> Any:
        """The result of `work` with the arguments `given`; None where it raises InputError or cannot read a file, and
        the message is added to `problems`."""
        try:
            return work(*given)
        except (InputError, OSError) as error:
            if (sentence := told(error)) is None:
                raise
            self.problems.append(str(sentence))
            return None


def artifacts(out: Path, dataset: Path | None = None) -> Findings:
    """Verify the artifacts of a run in folder `out`: dataset/, search/, evaluation/, onnx/, front.json, metrics.json.

    `dataset` is the folder of the prepared data set, by default `out`/dataset; the search and front.json must be of
    this data. A missing artifact is a problem only if another one needs it.
    """
    found, fingerprint = Findings(), None
    if dataset is not None or os.path.lexists(out / "dataset") or os.path.lexists(out / "front.json"):
        fingerprint = found.attempt(lambda: _dataset(dataset or out / "dataset", found))
    search = found.attempt(lambda: SearchFolder(out / "search"))
    if search is not None:
        _folder(out / "search", search_folder.AGAIN, found)
        found.attempt(lambda: found.problems.extend(_search(search, out / "search")))
        if fingerprint is not None:
            found.attempt(search.check_data, fingerprint, dataset or out / "dataset")
    evaluations: dict[str, dict[str, Any]] = {}
    if (out / "evaluation").is_dir():
        _folder(out / "evaluation", "run `parapet full_evaluation` again", found)
        for path in sorted((out / "evaluation").glob(f"{_ID}.json")):
            result = found.attempt(_evaluation, path, found)
            if result is not None:
                evaluations[result["id"]] = result
    made = [name for name in ("metrics.json", "onnx") if (out / name).exists()]
    if made and not (out / "front.json").exists():
        found.problems.append(f"{out / 'front.json'} is missing, although {made[0]} was made with it; run "
                              "`parapet front` again")
    if (out / "front.json").exists():
        shown = found.attempt(lambda: read_front(out / "front.json"))
        if shown is not None:
            found.files += 1
            if fingerprint is not None and shown["data"]["fingerprint"] != fingerprint:
                found.problems.append(f"{out / 'front.json'} was made from other data (fingerprint "
                                      f"{shown['data']['fingerprint'][:12]}) than {dataset or out / 'dataset'} holds "
                                      f"({fingerprint[:12]})")
            found.attempt(lambda: found.problems.extend(_front(shown, out, search, evaluations, found)))
    return found


def cache(folder: Path) -> Findings:
    """Verify what the cache has besides its candidates: evaluations, search states, latencies, checkpoints, and the
    results of the gate's attacks.

    Damaged ones are measured again when they are needed.
    """
    found = Findings()
    for path in sorted(folder.glob(f"evaluations/*/{_ID}.json")):
        if not results.is_old(path):
            found.attempt(_evaluation, path, found)
    kept = [*sorted(folder.glob("searches/*/state.json")), *sorted(folder.glob("searches/*/undefended.json")),
            *sorted(folder.glob("latency/*.json")), *sorted(folder.glob("sharing.json")),
            *sorted(folder.glob("gate/*/*.json"))]
    for path in kept:
        found.files += 1
        found.attempt(sealed.read, path, _AGAIN)
    for path in [*sorted(folder.glob(f"candidates/*/{results.CHECKPOINT}")),
                 *sorted(folder.glob("evaluations/*/*.state/*/*.safetensors")),
                 *sorted(folder.glob("gate/*/*.state/*/*.safetensors"))]:
        found.files += 1
        try:
            sealed_tensors.load(path)
        except sealed.Damaged as error:
            found.problems.append(f"{path} is damaged ({error}); {_AGAIN}.")
    return found


def _dataset(folder: Path, found: Findings) -> str:
    """Verify every file of the data set; returns its fingerprint. Raises InputError where one is damaged or missing."""
    from parapet.data.dataset import Dataset  # imports torch

    try:
        info = read_info(folder)
    except InputError as error:
        if folder.exists():
            raise
        raise InputError(f"{str(error).removesuffix('.')}, or give its folder with --dataset.") from None
    found.files += 1 + len(info["files"])
    check_files(folder, info)
    Dataset.open(folder).verify()
    fingerprint: str = info["fingerprint"]
    return fingerprint


def _folder(folder: Path, again: str, found: Findings) -> None:
    """Verify every file that digests.json lists."""
    kept = found.attempt(lambda: sealed.SealedFolder(folder, again))
    for name in kept.files if kept else ():
        found.files += 1
        found.attempt(kept.path, name)


def _search(search: SearchFolder, folder: Path) -> Iterator[str]:
    """Problems of the archive's records, and of the front and the numbers of search.json, which follow from them."""
    summary = search.summary()
    for line in [*archive.read(search.archive()), *filter(None, [search.json(search_folder.UNDEFENDED)])]:
        if (problem := schemas.problem("archive_record", line)) is not None:
            yield f"{folder}: the record of {line.get('id')} does not meet the schema at {problem}"
            return
    records = latest(search.records())
    ids = [record.id for record in front(trained_from_scratch(records), summary["objectives"])]
    if search.ids() != ids:
        yield (f"{folder / search_folder.FRONT_IDS} lists {', '.join(search.ids())}, but the front of the archive is "
               f"{', '.join(ids)}")
    curve = hypervolume_curve(records, summary["ideal"], summary["reference"])
    if summary["hypervolume"] != curve or summary["evaluated"] != len(records):
        yield f"{folder / search_folder.SUMMARY} does not agree with the numbers that its archive gives"


def _evaluation(path: Path, found: Findings) -> dict[str, Any] | None:
    """Verify a file evaluation/<id>.json and recompute its numbers; returns its content."""
    result = results.read_evaluation(path, _AGAIN)
    found.files += 1 + len(result.get("digests", ()))
    if (problem := schemas.problem("evaluation", result)) is not None:
        raise InputError(f"{path} does not meet the schema at {problem}.")
    found.evaluations += 1
    found.problems += [f"{path}: {text}" for text in contradictions(result["evaluation"])]
    found.problems += [f"{path}: {text}" for text in audit_problems(result["evaluation"], result["audit"])]
    return result


def _front(shown: dict[str, Any], out: Path, search: SearchFolder | None, evaluations: dict[str, dict[str, Any]],
           found: Findings) -> Iterator[str]:
    """Problems of front.json and metrics.json: where they differ from the members' evaluations, records and files."""
    path = out / "front.json"
    records = {record.id: record.to_json() for record in latest(search.records())} if search else {}
    if search and (undefended := search.undefended()):
        records[undefended.id] = undefended.to_json()
    for member in [shown["undefended"], *shown["candidates"], *shown["variants"]]:
        name, own = member["id"], member["derived_from"] or member["id"]
        evaluation, record = evaluations.get(own), records.get(own)
        if evaluation is None or record is None:
            yield f"{path} lists candidate {name}, but its evaluation or its record is missing"
            continue
        told = results.tested(evaluation)
        block = evaluation["int8"] if member["derived_from"] else {"validation": record["validation"], **told}
        names = ("test", "validation") if member["derived_from"] else ("test", "audit", "onnx_parity", "sha256",
                                                                        "validation")
        if odd := [each for each in names if block is None or member[each] != block[each]]:
            yield f"{path} differs from the evaluation and the record of {name} in: {', '.join(odd)}"
        if any(member[each] != record[each] for each in ("genome", "flops", "params")):
            yield f"{path} gives {name} another genome, FLOPs or parameters than its record"
        for kind in ("weights", "onnx"):
            file, expected = out / member[kind], member["sha256"][kind]
            found.files += 1
            if expected and (not file.is_file() or file_digest(file) != expected):
                yield f"{file} is missing, or not the file that was measured for {name}"
    numbers = out / "metrics.json"
    found.files += 1
    try:
        right = read_json(numbers) == metrics(shown)
    except (OSError, ValueError, RecursionError):
        right = False
    if not right:
        yield f"{numbers} is missing, or has other numbers than {path}; run `parapet front` again"
