"""schedule: reconciles recurring runs with a file: creates, replaces and deletes them.

Kubeflow cannot change a recurring run. For a change, a new one is created disabled, then the old one is deleted and the
new one enabled. If this is interrupted, the next call completes it. Only recurring runs from this command are changed:
their description contains a mark and the values that they were created from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parapet.config import option, parse
from parapet.disk import plain_yaml
from parapet.errors import InputError
from parapet.quoting import name as named
from parapet.quoting import quote
from pipelines import cron
from pipelines.connection import Endpoint, asking, pages
from pipelines.submit import Version

if TYPE_CHECKING:
    from rich.table import Table

PIPELINES = ("robust_search", "promote")
_MARK = "Kept by `python -m pipelines schedule`; change the file, not this. "
_SHOWN = 3


@dataclass(frozen=True)
class Entry:
    """A recurring run of `pipeline` with the parameters in the file `params`, at the times of `cron`.

    `cron` has the fields minute, hour, day of month, month and day of week, optionally with seconds before them, or is
    a descriptor such as `@daily`. Its time zone is that of the cluster's controller: UTC, or CRON_SCHEDULE_TIMEZONE
    where that is set there.
    """

    name: str = option("")
    cron: str = option("")
    pipeline: str = option("robust_search", choices=PIPELINES)
    params: str = option("params.yaml")
    cluster: str | None = option(None)
    assembled: str | None = option(None)
    image: str = option("")
    experiment: str = option("parapet")
    service_account: str | None = option(None)
    enabled: bool = option(True)

    def __post_init__(self) -> None:
        if not self.name or not self.cron or not self.image:
            missing = next(name for name in ("name", "cron", "image") if not getattr(self, name))
            raise InputError(f"the recurring run {quote(self.name)} has no {missing}; it needs a name, a cron "
                             "expression and an image.")
        if (self.pipeline == "promote") != (self.assembled is not None):
            raise InputError(f"the recurring run {quote(self.name)} is of the pipeline {self.pipeline}, and "
                             + ("has no assembled, the address of the artifact `assembled` of an earlier run's front."
                                if self.assembled is None else "assembled is for the pipeline promote alone."))
        self.next_times(datetime.now(UTC))

    @property
    def kubeflow_cron(self) -> str:
        """The cron expression with the seconds field first, as Kubeflow expects it."""
        fields = self.cron.split()
        return " ".join(["0", *fields] if len(fields) == 5 and not fields[0].startswith("@") else fields)

    def next_times(self, after: datetime) -> list[datetime]:
        """The next three times after `after`. Raises InputError where the expression is invalid or has no next time."""
        try:
            found, times = cron.parse(self.kubeflow_cron), [after]
            while len(times) <= _SHOWN:
                if (following := found.next(times[-1])) is None:
                    raise cron.CronError("it names a time that does not come within five years")
                times.append(following)
            return times[1:]
        except cron.CronError as error:
            raise InputError(f"the cron expression {quote(self.cron)} of {named(self.name)} cannot be used: "
                             f"{error}; write for example \"0 2 * * *\" for every night at two.") from None


@dataclass(frozen=True)
class Change:
    """The change for the recurring run `name`: `action` is create, replace, tidy, enable, disable, delete or keep."""

    name: str
    action: str
    reason: str
    entry: Entry | None = None
    wanted: dict[str, Any] | None = None
    keep: Any = None
    remove: tuple[Any, ...] = ()


def read(path: Path) -> list[Entry]:
    """The entries of a file, which is a list of mappings. Raises InputError for any error in it."""
    values = plain_yaml.read(path, "give a file like pipelines/schedules.yaml with --file")
    if not isinstance(values, list):
        raise InputError(f"{path} is no list; write one mapping for each recurring run.")
    try:
        entries = [parse(Entry, value, f"entry {place}: ") for place, value in enumerate(values, 1)]
        names = [entry.name for entry in entries]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"two recurring runs are called {named(double)}; give each a name of its own.")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return entries


def plan(client: Any, endpoint: Endpoint, entries: Sequence[Entry],
         version_of: Callable[[Entry], str]) -> list[Change]:
    """The changes to make on the server. `version_of` returns the name of the pipeline version for an entry."""
    there: dict[str, list[Any]] = {}
    for job in _ours(client, endpoint):
        there.setdefault(job.display_name, []).append(job)
    changes = []
    for entry in entries:
        wanted = {"cron": entry.kubeflow_cron, "experiment": entry.experiment, "pipeline": entry.pipeline,
                  "service_account": entry.service_account, "version": version_of(entry)}
        changes.append(_change(entry, wanted, there.pop(entry.name, [])))
    return changes + [Change(name, "delete", "the file no longer has it", remove=tuple(jobs))
                      for name, jobs in there.items()]


def apply(client: Any, endpoint: Endpoint, change: Change, upload: Callable[[Entry], Version]) -> None:
    """Make one change on the server. Raises what `asking` raises."""
    new, entry = change.keep, change.entry
    if entry is not None and change.action in ("create", "replace"):
        version = upload(entry)
        with asking(endpoint):
            experiment = client.create_experiment(entry.experiment, namespace=endpoint.namespace)
            # Disabled until the old one is deleted, so that they never run at the same time.
            new = client.create_recurring_run(
                experiment.experiment_id, change.name, description=_MARK + json.dumps(change.wanted, sort_keys=True),
                cron_expression=entry.kubeflow_cron, max_concurrency=1, no_catchup=True,
                pipeline_id=version.pipeline_id, version_id=version.version_id, enabled=False,
                service_account=entry.service_account)
    for job in change.remove:
        with asking(endpoint):
            client.delete_recurring_run(job.recurring_run_id)
    if entry is not None and new is not None and _is_on(new) != entry.enabled:
        with asking(endpoint):
            switch = client.enable_recurring_run if entry.enabled else client.disable_recurring_run
            switch(new.recurring_run_id)


def shown(changes: Sequence[Change]) -> Table:
    """The changes as a table, with the next times of enabled runs."""
    from rich.table import Table

    table = Table(title="recurring runs", title_justify="left")
    for name in ("name", "change", "why", "next"):
        table.add_column(name)
    for change in changes:
        entry = change.entry
        times = entry.next_times(datetime.now(UTC)) if entry and entry.enabled else []
        table.add_row(change.name, change.action, change.reason, ", ".join(f"{time:%a %d %b %H:%M}" for time in times))
    return table


def _change(entry: Entry, wanted: dict[str, Any], jobs: list[Any]) -> Change:
    same = [job for job in jobs if _made_from(job) == wanted]
    # If an interrupted call left several, an enabled one is kept.
    same.sort(key=lambda job: not _is_on(job))
    others = tuple(job for job in jobs if job not in same[:1])
    if not jobs:
        return Change(entry.name, "create", "it is not there", entry, wanted)
    if not same:
        before = _made_from(jobs[0])
        changed = [f"{name} was {before.get(name)}" for name in wanted if before.get(name) != wanted[name]]
        return Change(entry.name, "replace", "; ".join(changed), entry, wanted, remove=others)
    if others:
        return Change(entry.name, "tidy", "an earlier one was left", entry, wanted, same[0], others)
    if _is_on(same[0]) != entry.enabled:
        action, reason = ("enable", "it is off") if entry.enabled else ("disable", "it is on")
        return Change(entry.name, action, reason, entry, wanted, same[0])
    return Change(entry.name, "keep", "", entry, wanted, same[0])


def _ours(client: Any, endpoint: Endpoint) -> Iterator[Any]:
    for page in pages(endpoint, lambda token: client.list_recurring_runs(
            page_token=token, page_size=100, namespace=endpoint.namespace)):
        yield from (job for job in page.recurring_runs or [] if (job.description or "").startswith(_MARK))


def _made_from(job: Any) -> dict[str, Any]:
    try:
        wanted: dict[str, Any] = json.loads(job.description.removeprefix(_MARK))
        return wanted
    except ValueError:
        return {}


def _is_on(job: Any) -> bool:
    return str(job.status or job.mode).startswith("ENABLE")
