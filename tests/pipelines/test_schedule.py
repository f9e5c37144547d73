"""`python -m pipelines schedule`: recurring runs become what the file says, from wherever they are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import kfp_server_api as api
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from parapet.errors import InputError
from pipelines import schedule
from pipelines.__main__ import main
from pipelines.schedule import Entry
from tests.pipelines.test_submit import GOLDEN, IMAGE, repository, server  # noqa: F401 (fixtures)

MLFLOW = "http://mlflow.parapet.svc:5000"
NIGHTLY = {"name": "nightly", "cron": "0 2 * * *", "image": IMAGE}
WEEKLY = {"name": "weekly", "cron": "30 1 * * 0", "image": IMAGE, "experiment": "weeks", "enabled": False}


def _call(uri: str, tmp: Path, entries: list[dict], *more: str) -> int:
    file = tmp.parent / f"schedules-{tmp.name}.yaml"  # outside the repository, which must stay clean
    file.write_text(yaml.safe_dump(entries))
    return main(["schedule", "--file", str(file), "--host", uri, *more])


def _jobs(state) -> dict[str, api.V2beta1RecurringRun]:
    jobs = {job.display_name: job for job in state.recurring.values()}
    assert len(jobs) == len(state.recurring)
    return jobs


def test_nothing_is_sent_before_it_is_shown_and_asked_for(server, repository, capsys) -> None:  # noqa: F811
    state, uri = server
    assert _call(uri, repository, [NIGHTLY]) == 0
    told = capsys.readouterr().out
    assert "nightly" in told and "create" in told and "1 to do; add --apply to do it." in told
    assert not state.recurring and not any(asked.startswith("POST") for asked in state.requests)


def test_the_file_is_what_is_there_and_doing_it_again_does_nothing(server, repository, capsys) -> None:  # noqa: F811
    state, uri = server
    assert _call(uri, repository, [NIGHTLY, WEEKLY], "--apply") == 0
    jobs = _jobs(state)
    nightly, weekly = jobs["nightly"], jobs["weekly"]
    assert nightly.trigger["cron_schedule"]["cron"] == "0 0 2 * * *"
    assert (nightly.status, weekly.status) == ("ENABLED", "DISABLED")
    assert nightly.no_catchup is True and str(nightly.max_concurrency) == "1"
    assert state.experiments[weekly.experiment_id].display_name == "weeks"
    before = dict(state.recurring)
    capsys.readouterr()
    assert _call(uri, repository, [NIGHTLY, WEEKLY], "--apply") == 0
    assert capsys.readouterr().out.rstrip().endswith("nothing to do.")
    assert state.recurring == before


def test_a_change_replaces_and_what_the_file_no_longer_has_goes(server, repository, capsys) -> None:  # noqa: F811
    state, uri = server
    _call(uri, repository, [NIGHTLY, WEEKLY], "--apply")
    old = _jobs(state)["nightly"].recurring_run_id
    stranger = api.V2beta1RecurringRun(recurring_run_id="s", display_name="somebody's", description="by hand",
                                       status="ENABLED")
    state.recurring["s"] = stranger
    capsys.readouterr()
    assert _call(uri, repository, [{**NIGHTLY, "cron": "0 3 * * *"}], "--apply") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "cron was 0 0 2 * * *" in told and "the file no longer has it" in told
    jobs = _jobs(state)
    assert set(jobs) == {"nightly", "somebody's"} and jobs["nightly"].recurring_run_id != old
    assert jobs["nightly"].trigger["cron_schedule"]["cron"] == "0 0 3 * * *" and jobs["nightly"].status == "ENABLED"


def test_two_never_run_at_once_and_none_is_missing_in_between(server, repository) -> None:  # noqa: F811
    state, uri = server
    _call(uri, repository, [NIGHTLY], "--apply")
    seen = []
    answer = state.answer

    def watched(*request):
        done = answer(*request)
        seen.append(sorted(job.status for job in state.recurring.values()))
        return done
    state.answer = watched
    _call(uri, repository, [{**NIGHTLY, "cron": "0 3 * * *"}], "--apply")
    assert all(statuses.count("ENABLED") <= 1 and statuses for statuses in seen)
    assert ["DISABLED", "ENABLED"] in seen and seen[-1] == ["ENABLED"]


@pytest.mark.parametrize("pattern", ["POST .*/recurringruns$", "DELETE .*", "POST .*:enable", "POST .*/upload_version"])
def test_what_a_failure_leaves_the_next_call_ends(server, repository, pattern: str) -> None:  # noqa: F811
    state, uri = server
    _call(uri, repository, [NIGHTLY], "--apply")
    changed = [{**NIGHTLY, "cron": "0 3 * * *", "params": "other.yaml"}]
    (repository / "other.yaml").write_text((GOLDEN / "params.yaml").read_text() + "\n")
    state.fail(pattern, 500)
    arguments = ("--apply", "--allow-dirty")
    first = _call(uri, repository, changed, *arguments)
    assert first in (0, 1)
    assert _call(uri, repository, changed, *arguments) == 0
    job, = state.recurring.values()
    assert job.trigger["cron_schedule"]["cron"] == "0 0 3 * * *" and job.status == "ENABLED"


def test_the_audit_of_the_champion_can_be_scheduled(server, repository) -> None:  # noqa: F811
    state, uri = server
    (repository / "cluster.yaml").write_text(f"mlflow_uri: {MLFLOW}\n")
    audit = {**NIGHTLY, "name": "audit", "pipeline": "promote", "cluster": "cluster.yaml",
             "assembled": "minio://mlpipeline/v2/artifacts/front/assembled"}
    assert _call(uri, repository, [audit], "--apply", "--allow-dirty") == 0
    assert _jobs(state)["audit"].status == "ENABLED"


def test_switching_on_and_off_makes_nothing_anew(server, repository) -> None:  # noqa: F811
    state, uri = server
    _call(uri, repository, [NIGHTLY], "--apply")
    job = _jobs(state)["nightly"].recurring_run_id
    for enabled, status in ((False, "DISABLED"), (True, "ENABLED")):
        assert _call(uri, repository, [{**NIGHTLY, "enabled": enabled}], "--apply") == 0
        assert state.recurring[job].status == status and len(state.recurring) == 1


def test_another_revision_of_the_parameters_replaces(server, repository) -> None:  # noqa: F811
    state, uri = server
    _call(uri, repository, [NIGHTLY], "--apply")
    old = _jobs(state)["nightly"].recurring_run_id
    params = (repository / "params.yaml").read_text().replace("population: 3", "population: 4")
    (repository / "params.yaml").write_text(params)
    assert _call(uri, repository, [NIGHTLY], "--apply", "--allow-dirty") == 0
    assert _jobs(state)["nightly"].recurring_run_id != old


@pytest.mark.parametrize(("entries", "sentence"), [
    ([{**NIGHTLY, "cron": "0 25 * * *"}], "the cron expression '0 25 * * *' of nightly cannot be used"),
    ([{**NIGHTLY, "cron": "0 0 31 2 *"}], "the cron expression '0 0 31 2 *' of nightly cannot be used"),
    ([{**NIGHTLY, "cron": "0 0 31 2 *"}], "cannot be used: it names a time that does not come within five years"),
    ([{**NIGHTLY, "cron": "every night"}], "cannot be used: it has 2 fields; allowed are five (minute, hour, day of"),
    ([{**NIGHTLY, "cron": "70 0 2 * * *"}], "cannot be used: its second is '70', where 70 is outside; allowed are *"),
    ([{**NIGHTLY, "cron": "0 2 * * 7"}], "cannot be used: its day of week is '7', where Sunday is 0; allowed are *"),
    ([{**NIGHTLY, "cron": "0 2 L * *"}], "cannot be used: its day of month is 'L', where Kubeflow knows no L, W or #"),
    ([{**NIGHTLY, "cron": "0 2 LW * *"}], "cannot be used: its day of month is 'LW', where Kubeflow knows no L, W"),
    ([{**NIGHTLY, "cron": "0 2 * * 1#2"}], "cannot be used: its day of week is '1#2', where Kubeflow knows no L, W"),
    ([{**NIGHTLY, "cron": "@reboot"}], "cannot be used: it is '@reboot'; allowed are @yearly, @annually, @monthly"),
    ([{"name": "a", "cron": "0 2 * * *"}], "the recurring run 'a' has no image; it needs a name, a cron expression"),
    ([NIGHTLY, NIGHTLY], "two recurring runs are called nightly; give each a name of its own."),
    ([{**NIGHTLY, "pipeline": "promote"}], "is of the pipeline promote, and has no assembled, the address of the"),
    ([{**NIGHTLY, "assembled": "minio://x"}], "robust_search, and assembled is for the pipeline promote alone."),
    ([{**NIGHTLY, "pipeline": "serach"}], "pipeline is 'serach'. Allowed: robust_search, promote."),
    ([{**NIGHTLY, "corn": "1"}], "corn is not a known key; did you mean entry 1: cron?"),
    ([{**NIGHTLY, "image": "parapet:dev"}], "the image 'parapet:dev' is named by a tag"),
    ({"nightly": NIGHTLY}, "is no list; write one mapping for each recurring run."),
])
def test_what_is_wrong_is_said_before_anything_is_sent(server, repository, capsys, entries,  # noqa: F811
                                                       sentence: str) -> None:
    state, uri = server
    assert _call(uri, repository, entries, "--apply") == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1
    assert state.requests == []


@given(st.integers(0, 59), st.integers(0, 23))
def test_the_next_times_are_those_of_the_expression(minute: int, hour: int) -> None:
    entry = Entry(**{**NIGHTLY, "cron": f"{minute} {hour} * * *"})
    times = entry.next_times(datetime(2026, 1, 1, tzinfo=UTC))
    assert [(time.hour, time.minute) for time in times] == [(hour, minute)] * 3
    assert times == sorted(times) and (times[-1] - times[0]).days == 2
    assert entry.kubeflow_cron == f"0 {minute} {hour} * * *"


@pytest.mark.parametrize(("cron", "sent", "first"), [
    ("@daily", "@daily", "2026-01-02T00:00:00"), ("@every  90m", "@every 90m", "2026-01-01T01:30:00"),
    ("15 0 2 ? * sun-tue", "15 0 2 ? * sun-tue", "2026-01-04T02:00:15")])
def test_descriptors_and_six_fields_are_sent_as_they_are(cron: str, sent: str, first: str) -> None:
    entry = Entry(**{**NIGHTLY, "cron": cron})
    assert entry.kubeflow_cron == sent
    assert f"{entry.next_times(datetime(2026, 1, 1, tzinfo=UTC))[0]:%Y-%m-%dT%H:%M:%S}" == first


def test_the_example_in_the_repository_can_be_read() -> None:
    entries = schedule.read(Path(__file__).parents[2] / "pipelines/schedules.yaml")
    assert [entry.name for entry in entries] == ["nightly-search"]
    with pytest.raises(InputError, match="does not exist; give a file like pipelines/schedules.yaml with --file"):
        schedule.read(Path("none.yaml"))
