"""Our reading of cron expressions against Kubeflow's own parser: its verdicts and times for a thousand expressions.

The table kubeflow_cron.tsv was written by github.com/robfig/cron 1.2.0 (`cron.Parse`, as Kubeflow calls it), with what
3.0.1 says beside it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import cron

AFTER = datetime(2026, 2, 27, 22, 58, 30, tzinfo=UTC)
TABLE = [line.split("\t") for line in (Path(__file__).parent / "kubeflow_cron.tsv").read_text().splitlines()[1:]]
# What Kubeflow reads without a sense, and we refuse: an empty part of a list, the end of a range that it ignores,
# distances that it takes for one second.
SENSELESS = re.compile(r"(^| |,),|,( |$)|[*?]-|^@every (-.*|\+?0s?|[0-9]{1,3}ms)$|[0-9]{19}")
# Five fields mean something else to Kubeflow (no day of week); ours have the second added before they are read.
FIVE = re.compile(r"^[^@ ]+( [^ ]+){4}$")


@cache
def _times(expression: str) -> str:
    try:
        found = cron.parse(expression)
    except cron.CronError:
        return "refused"
    times, after = [], AFTER
    while len(times) < 3 and (after := found.next(after)) is not None:
        times.append(f"{after:%Y-%m-%dT%H:%M:%S}")
    return " ".join(times) or "never"


def test_what_kubeflow_refuses_is_refused_and_what_it_runs_comes_at_the_same_times() -> None:
    rows = [row for row in TABLE if not FIVE.match(row[0])]
    wrong = {expression: (_times(expression), said) for expression, said, _ in rows
             if not SENSELESS.search(expression) and _times(expression) != said}
    assert wrong == {}
    verdicts = [said == "refused" for _, said, _ in rows]
    assert len(rows) > 1000 and verdicts.count(True) > 400 and verdicts.count(False) > 500


def test_what_has_no_sense_is_refused_although_kubeflow_reads_it() -> None:
    senseless = [expression for expression, said, _ in TABLE if SENSELESS.search(expression) and said != "refused"]
    assert len(senseless) > 20
    assert {_times(expression) for expression in senseless} == {"refused"}


def test_what_we_read_a_newer_version_of_that_parser_reads_too() -> None:
    refused = [expression for expression, _, newer in TABLE if newer == "refused"]
    assert len(refused) > 400 and {_times(expression) for expression in refused} == {"refused"}


@pytest.mark.parametrize(("expression", "sentence"), [
    ("0 0 2 * * 7", "its day of week is '7', where Sunday is 0; allowed are *, ?, numbers from 0 to 6 (or sun to sat), "
                    "ranges like 0-6, steps like */2, and lists of them with commas"),
    ("0 0 2 L * *", "its day of month is 'L', where Kubeflow knows no L, W or #; allowed are *, ?, numbers from 1 to "
                    "31, ranges like 1-31, steps like */2, and lists of them with commas"),
    ("0 0 2 LW * *", "its day of month is 'LW', where Kubeflow knows no L, W or #; "),
    ("0 0 2 * * 1#2", "its day of week is '1#2', where Kubeflow knows no L, W or #; "),
    ("0 60 2 * * *", "its minute is '60', where 60 is outside; allowed are *, ?, numbers from 0 to 59, "),
    ("0 0 2 * 5-3 *", "its month is '5-3', where '5-3' ends before it begins; "),
    ("0 0 */0 * * *", "its hour is '*/0', where the step of '*/0' is 0; "),
    ("0 0 1-2-3 * * *", "its hour is '1-2-3', where '1-2-3' cannot be read; "),
    ("0 0 2 * monday *", "its month is 'monday', where 'monday' is no number; allowed are *, ?, numbers from 1 to 12 "
                         "(or jan to dec), "),
    ("0 2 * *", "it has 4 fields; allowed are five (minute, hour, day of month, month, day of week) and six with "
                "seconds first"),
    ("CRON_TZ=UTC 0 0 2 * * *", "it begins with the time zone 'CRON_TZ=UTC', which Kubeflow does not read; times are "
                                "those of its controller, which CRON_SCHEDULE_TIMEZONE sets"),
    ("@reboot", "it is '@reboot'; allowed are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and "
                '"@every 1h30m"'),
    ("@every 1d", "its distance is '1d'; allowed are whole and decimal numbers with the units h, m and s, for example "
                  "1h30m"),
    ("@every 10ms", "its distance is '10ms'; allowed are distances from one second to 290 years"),
])
def test_the_error_names_the_field_what_was_written_and_what_is_allowed(expression: str, sentence: str) -> None:
    with pytest.raises(cron.CronError) as error:
        cron.parse(expression)
    assert str(error.value).startswith(sentence) and "\n" not in str(error.value)


@given(st.text(alphabet="0123456789 */-,?@LW#TZ=evryhmsjanfri.+\t", max_size=30) | st.text(max_size=30))
def test_nothing_but_a_cron_error_comes_out(text: str) -> None:
    _times(text)
