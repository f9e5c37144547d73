"""The runs of one experiment: one parent per search and one child per candidate, found before they are made.

Everything here may be repeated after a kill at any point: runs are created with the tags by which they are found, and
a point, param or tag that a run has already is not logged again.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parapet.errors import WorkError
from parapet.quoting import quote
from parapet.tracking.values import legal, number, numbers_and_texts, shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SEARCH_TAG = "parapet.search"
KIND_TAG = "parapet.kind"
_MADE_TAG = "parapet.made"
_PARENT_TAG = "mlflow.parentRunId"
_LARGEST = sys.float_info.max
_LONGEST_PARAM, _LONGEST_TAG = 6000, 5000
_METRICS_PER_BATCH, _OTHERS_PER_BATCH = 800, 90


@dataclass(frozen=True)
class Point:
    """One value of one metric; `time` in unix seconds."""

    name: str
    value: float
    time: float
    step: int = 0

    def __post_init__(self) -> None:
        # SQL has no infinity: MLflow stores the largest number instead, with which this is compared later.
        object.__setattr__(self, "value", max(-_LARGEST, min(_LARGEST, self.value))
                           if not math.isnan(self.value) else self.value)


def curve_points(curves: Iterable[Mapping[str, Any]], step: str, prefix: str, time: float) -> Iterator[Point]:
    """The numbers of rows that have a `step` (or else their place counts) and a `time` (or else the one given)."""
    for place, row in enumerate(curves):
        at = number(row.get(step))
        numbers, _ = numbers_and_texts({key: row[key] for key in row if key not in (step, "time")}, prefix)
        for name, value in numbers.items():
            yield Point(legal(name), value, number(row.get("time")) or time, place if at is None else int(at))


def experiment_id(client: MlflowClient, name: str) -> str | None:
    """The id of a live experiment, None where there is none; WorkError where it was deleted."""
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise WorkError(f"The MLflow experiment {quote(name)} was deleted; restore it with `mlflow experiments restore "
                        f"--experiment-id {found.experiment_id}`, or name another one as tracking.experiment.")
    return None if found is None else found.experiment_id


class Runs:
    """The runs of one experiment on one server."""

    def __init__(self, client: MlflowClient, experiment: str, artifact_root: Path | None = None,
                 parent_run_id: str | None = None) -> None:
        """Finds or makes the experiment. With `parent_run_id` (a run that Kubeflow made) searches join the root
        of that run's tree, in that run's experiment."""
        self.client = client
        self.warnings: list[str] = []
        self._parents: dict[str, str] = {}
        self.joined = root_run(client, parent_run_id) if parent_run_id else None
        if parent_run_id and self.joined is None:
            self.warnings.append(f"MLflow has no run {parent_run_id} to join, so the search gets a run of its own.")
        if self.joined is not None:
            self.experiment_id = self.joined.info.experiment_id
        else:
            self.experiment_id = experiment_id(client, experiment) or self._new_experiment(experiment, artifact_root)

    def parent(self, search_id: str, name: str | None = None, started: float | None = None) -> str:
        """The run of a search; made if there is none."""
        if search_id not in self._parents:
            tags = {SEARCH_TAG: search_id, KIND_TAG: "search"}
            if self.joined is not None:
                self._parents[search_id] = self.joined.info.run_id
                self.log(self.joined.info.run_id, tags=tags)
            else:
                found = self.find(search_id, "search")
                if found is None:
                    made = self._make(tags, name or search_id, started or time.time())
                    # Two pods may have searched at the same moment: both now see both runs, and keep the first.
                    found = self.find(search_id, "search") or made
                    if found.info.run_id != made.info.run_id:
                        self.client.delete_run(made.info.run_id)
                self._parents[search_id] = found.info.run_id
        if name and self.joined is None:
            self.client.update_run(self._parents[search_id], name=name)
        return self._parents[search_id]

    def merge_parents(self, search_id: str) -> None:
        """Keep one run of the search, the first that was made, as the parent of every candidate.

        MLflow guarantees unique names of experiments and of models only, so that two pods that begin at once, on a slow
        server, may each have created a run for their search.
        """
        if self.joined is None and (only := self._only_parent(search_id)) is not None:
            self._parents[search_id] = only.info.run_id
            for run in self.all(search_id, "candidate"):
                if run.data.tags.get(_PARENT_TAG) != only.info.run_id:
                    self.client.set_tag(run.info.run_id, _PARENT_TAG, only.info.run_id)

    def _only_parent(self, search_id: str) -> Run | None:
        runs = self.all(search_id, "search")
        for run in runs[1:]:
            self.client.delete_run(run.info.run_id)
        return runs[0] if runs else None

    def child(self, search_id: str, candidate_id: str, started: float) -> str:
        """The run of a candidate; made under the run of its search if there is none."""
        found = self.find(search_id, "candidate", candidate_id)
        if found is None:
            tags = {SEARCH_TAG: search_id, KIND_TAG: "candidate", "candidate": candidate_id, "on_front": "false",
                    _PARENT_TAG: self.parent(search_id)}
            found = self._make(tags, candidate_id, started)
        run_id: str = found.info.run_id
        return run_id

    def find(self, search_id: str, kind: str, candidate_id: str | None = None) -> Run | None:
        """The run of this kind that was made first, or None."""
        return next(iter(self.all(search_id, kind, candidate_id)), None)

    def all(self, search_id: str, kind: str, candidate_id: str | None = None) -> list[Run]:
        """Every run of a search of this kind, in the order they were made."""
        return find_runs(self.client, self.experiment_id, search_id, kind, candidate_id)

    def log(self, run_id: str, points: Sequence[Point] = (), params: Mapping[str, Any] | None = None,
            tags: Mapping[str, Any] | None = None) -> None:
        """Log what the run does not have yet. A param that differs cannot be changed: a warning."""
        from mlflow.entities import Metric, Param, RunTag

        data = self.client.get_run(run_id).data
        metrics = [Metric(point.name, point.value, int(point.time * 1000), point.step)
                   for point in self._new_points(run_id, data.metrics, points)]
        wanted = {legal(name): shortened(str(value), _LONGEST_PARAM) for name, value in (params or {}).items()}
        changed = sorted(name for name, value in wanted.items() if data.params.get(name, value) != value)
        if changed:
            self.warnings.append(f"Run {run_id} keeps its first values of {', '.join(changed)}: MLflow does not "
                                 "change params.")
        new_params = [Param(name, value) for name, value in wanted.items() if name not in data.params]
        texts = {legal(name): shortened(str(value), _LONGEST_TAG) for name, value in (tags or {}).items()
                 if value is not None}
        new_tags = [RunTag(name, text) for name, text in texts.items() if data.tags.get(name) != text]
        # Together, because each batch is a transaction, which on SQLite waits for the disk a few times.
        for turn in itertools.count():
            batch: dict[str, Any] = {name: items[turn * most:(turn + 1) * most] for name, items, most in (
                ("metrics", metrics, _METRICS_PER_BATCH), ("params", new_params, _OTHERS_PER_BATCH),
                ("tags", new_tags, _OTHERS_PER_BATCH))}
            if not any(batch.values()):
                break
            self.client.log_batch(run_id, **batch)

    def upload(self, run_id: str, artifacts: Mapping[str, str], about: str) -> None:
        """Keep files and folders with the run, each in a folder of its name; one that vanished is a warning."""
        for name, text in artifacts.items():
            path = Path(text)
            try:
                if path.is_dir():
                    self.client.log_artifacts(run_id, text, artifact_path=name)
                    continue
                if path.is_file():
                    self.client.log_artifact(run_id, text, artifact_path=name)
                    continue
            except OSError:
                if path.exists():
                    raise
            self.warnings.append(f"{about}: {text} was deleted before it was sent to MLflow, so its run has no {name}.")

    def _new_points(self, run_id: str, latest: Mapping[str, float], points: Sequence[Point]) -> Iterator[Point]:
        """The points that the run lacks; a retry may bring the same value with another time."""
        lengths = Counter(point.name for point in points)
        had: dict[str, set[tuple[int, str]]] = {}
        for point in points:
            name = point.name
            if name in latest and lengths[name] == 1 and point.step == 0:
                # A single value: the latest one counts, and asking for its history would cost a request each.
                if repr(float(latest[name])) == repr(point.value):
                    continue
            elif name in latest:
                if name not in had:
                    had[name] = {(metric.step, repr(float(metric.value)))
                                 for metric in self.client.get_metric_history(run_id, name)}
                if (point.step, repr(point.value)) in had[name]:
                    continue
            yield point

    def _make(self, tags: Mapping[str, str], name: str, started: float) -> Run:
        return self.client.create_run(self.experiment_id, start_time=int(started * 1000), run_name=name,
                                      tags={**tags, _MADE_TAG: f"{time.time_ns():020d}"})

    def _new_experiment(self, name: str, artifact_root: Path | None) -> str:
        from mlflow.exceptions import MlflowException

        # Without a root MLflow would put the artifacts of a local database into the working directory.
        location = None if artifact_root is None else artifact_root.resolve().as_uri()
        try:
            return self.client.create_experiment(name, artifact_location=location)
        except MlflowException:
            found = experiment_id(self.client, name)  # another process has created it meanwhile
            if found is None:
                raise
            return found


def root_run(client: MlflowClient, run_id: str) -> Run | None:
    """The root of the tree that a run lies in; None where the server has no such run."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
        while _PARENT_TAG in run.data.tags:
            run = client.get_run(run.data.tags[_PARENT_TAG])
        return run
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def find_runs(client: MlflowClient, experiment: str, search_id: str, kind: str,
              candidate_id: str | None = None) -> list[Run]:
    """Every live run of a search of this kind (`search` or `candidate`), in the order they were made."""
    wanted = f"tags.`{SEARCH_TAG}` = '{search_id}' AND tags.`{KIND_TAG}` = '{kind}'"
    if candidate_id is not None:
        wanted += f" AND tags.candidate = '{candidate_id}'"
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], filter_string=wanted, max_results=500, page_token=token)
        runs += page
        token = page.token
        if not token:
            return sorted(runs, key=lambda run: (run.data.tags.get(_MADE_TAG, ""), run.info.run_id))
