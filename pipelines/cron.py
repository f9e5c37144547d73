"""Parses cron expressions with the grammar of Kubeflow's own parser.

Kubeflow's API server and its controller parse the expression of a recurring run with `cron.Parse` of
github.com/robfig/cron 1.2: six fields with seconds first, or a descriptor such as `@daily` or `@every 90m`. That parser
and this module both refuse extensions of other cron versions (day 7, L, W, #, a time zone before the fields), and both
compute the same times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from fractions import Fraction

from parapet.quoting import quote


class CronError(ValueError):
    """An invalid expression; the message is part of a sentence: the field, its text and what is allowed."""


@dataclass(frozen=True)
class Field:
    """A field of an expression: its name, its lowest and highest value, and the names that can be used for values."""

    name: str
    low: int
    high: int
    names: Mapping[str, int]

    @property
    def allowed(self) -> str:
        """A text that describes the allowed values."""
        named = f" (or {next(iter(self.names))} to {list(self.names)[-1]})" if self.names else ""
        return (f"allowed are *, ?, numbers from {self.low} to {self.high}{named}, ranges like {self.low}-{self.high}, "
                f"steps like */2, and lists of them with commas")

    def parse(self, text: str) -> tuple[frozenset[int], bool]:
        """(values of `text`, whether it is unrestricted, which means that one of its parts starts with * or ?).

        Raises CronError where `text` is invalid.
        """
        values: set[int] = set()
        for part in text.split(","):
            values.update(self._part(text, part))
        return frozenset(values), any(part[:1] in ("*", "?") for part in text.split(","))

    def _part(self, text: str, part: str) -> range:
        span, *steps = part.split("/")
        first, *last = span.split("-")
        if len(steps) > 1 or len(last) > 1 or (first in ("*", "?") and last):
            raise self._error(text, f"where {quote(part)} cannot be read")
        if first in ("*", "?"):
            low, high = self.low, self.high
        else:
            low = self._value(text, first)
            high = self._value(text, last[0]) if last else self.high if steps else low
        step = self._number(text, steps[0]) if steps else 1
        if low > high:
            raise self._error(text, f"where {quote(span)} ends before it begins")
        if step == 0:
            raise self._error(text, f"where the step of {quote(part)} is 0")
        return range(low, high + 1, step)

    def _value(self, text: str, written: str) -> int:
        value = self.names.get(written.lower())
        value = self._number(text, written) if value is None else value
        if not self.low <= value <= self.high:
            sunday = (self.high, value) == (6, 7)
            raise self._error(text, "where Sunday is 0" if sunday else f"where {value} is outside")
        return value

    def _number(self, text: str, written: str) -> int:
        if not re.fullmatch(r"\+?[0-9]{1,18}", written):
            special = re.fullmatch(r"(?i)[0-9]*[LW]+|[0-9a-z]+#[0-9]+", written)
            raise self._error(text, "where Kubeflow knows no L, W or #" if special else
                              f"where {quote(written)} is no number")
        return int(written)

    def _error(self, text: str, why: str) -> CronError:
        return CronError(f"its {self.name} is {quote(text)}, {why}; {self.allowed}")


def _named(first: int, names: str) -> dict[str, int]:
    return {name: place for place, name in enumerate(names.split(), first)}


FIELDS = (Field("second", 0, 59, {}), Field("minute", 0, 59, {}), Field("hour", 0, 23, {}),
          Field("day of month", 1, 31, {}),
          Field("month", 1, 12, _named(1, "jan feb mar apr may jun jul aug sep oct nov dec")),
          Field("day of week", 0, 6, _named(0, "sun mon tue wed thu fri sat")))
_DESCRIPTORS = {"@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *",
                "@weekly": "0 0 0 * * 0", "@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@hourly": "0 0 * * * *"}
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_LENGTH = re.compile(r"([0-9]{1,18}\.?[0-9]{0,18}|\.[0-9]{1,18})(ns|us|µs|μs|ms|s|m|h)")
# The number of years in which Kubeflow searches for the next time.
_YEARS = 5


@dataclass(frozen=True)
class Calendar:
    """Times given by the allowed values of each field. With `any_day` a day must match both day fields, else one."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool

    def next(self, after: datetime) -> datetime | None:
        """The first time after `after`, in its time zone, which must not have daylight saving time; None where there is
        none within five years."""
        start = after.replace(microsecond=0) + timedelta(seconds=1)
        day, last = start.date(), start.year + _YEARS
        while day.year <= last:
            if self._has(day.day, day.month, day.isoweekday() % 7):
                floor = start.time() if day == start.date() else time.min
                if (found := self._time(floor)) is not None:
                    return datetime.combine(day, found, after.tzinfo)
            day += timedelta(days=1)
        return None

    def _has(self, day: int, month: int, weekday: int) -> bool:
        matches = day in self.days, weekday in self.weekdays
        return month in self.months and (all(matches) if self.any_day else any(matches))

    def _time(self, floor: time) -> time | None:
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes) if hour >= floor.hour else ():
                for second in sorted(self.seconds) if (hour, minute) >= (floor.hour, floor.minute) else ():
                    if (found := time(hour, minute, second)) >= floor:
                        return found
        return None


@dataclass(frozen=True)
class Every:
    """Times at equal intervals."""

    distance: timedelta

    def next(self, after: datetime) -> datetime:
        """The time one interval after `after`."""
        return after.replace(microsecond=0) + self.distance


def parse(expression: str) -> Calendar | Every:
    """Parse six fields with seconds first, or a descriptor. Raises CronError for expressions that Kubeflow refuses, and
    for meaningless ones that it accepts: empty parts of lists, `*-5`, and intervals below one second."""
    if expression.startswith("@"):
        if expression.startswith("@every "):
            return _every(expression.removeprefix("@every "))
        if expression not in _DESCRIPTORS:
            raise CronError(f"it is {quote(expression)}; allowed are {', '.join(_DESCRIPTORS)} and \"@every 1h30m\"")
        expression = _DESCRIPTORS[expression]
    words = expression.split()
    if words and words[0].startswith(("TZ=", "CRON_TZ=")):
        raise CronError(f"it begins with the time zone {quote(words[0])}, which Kubeflow does not read; times are "
                        "those of its controller, which CRON_SCHEDULE_TIMEZONE sets")
    if len(words) != len(FIELDS):
        raise CronError(f"it has {len(words)} fields; allowed are five (minute, hour, day of month, month, day of "
                        "week) and six with seconds first")
    parsed = [field.parse(word) for field, word in zip(FIELDS, words, strict=True)]
    seconds, minutes, hours, days, months, weekdays = (values for values, _ in parsed)
    return Calendar(seconds, minutes, hours, days, months, weekdays, any_day=parsed[3][1] or parsed[5][1])


def _every(text: str) -> Every:
    parts = _LENGTH.findall(text)
    if not parts or "".join(map("".join, parts)) != text.removeprefix("+"):
        raise CronError(f"its distance is {quote(text)}; allowed are whole and decimal numbers with the units h, m and "
                        "s, for example 1h30m")
    seconds = sum(int(Fraction(number.rstrip(".")) * _UNITS[unit]) for number, unit in parts) // 10**9
    if not 1 <= seconds < 2**63 // 10**9:
        raise CronError(f"its distance is {quote(text)}; allowed are distances from one second to 290 years")
    return Every(timedelta(seconds=seconds))
