"""The audit's table: which maskers escape, which honest nets fail, and what the checks said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

# A masker escapes where the audit lets it pass with a number that is further above the truth than this; and a number
# is near the truth within the other.
ESCAPE, NEAR = 0.10, 0.05
_SLACK = 1e-9


def escapes(record: dict[str, Any]) -> bool:
    """Whether a model was let pass, or only warned of, with a number more than 10 points above the truth."""
    return record["verdict"] in ("pass", "warn") and record["shown"] - record["truth"] > ESCAPE + _SLACK


def near(record: dict[str, Any]) -> bool:
    """Whether a number was shown that is at most 5 points above the truth, which is an upper bound itself."""
    return record["shown"] is not None and record["shown"] - record["truth"] <= NEAR + _SLACK


def table(records: Sequence[dict[str, Any]], title: str) -> Table:
    """A row for each model."""
    drawn = Table(title=title, title_justify="left")
    for heading in ("name", "kind", "ball", "clean", "truth", "suite", "shown", "near", "verdict", "checks", "s"):
        drawn.add_column(heading)
    for one in records:
        verdict = "[bold red]ESCAPES[/]" if escapes(one) else one["verdict"]
        checks = [*one["failed"], *(f"({name})" for name in one["warned"])]
        drawn.add_row(one["name"], one["kind"], f"{one['norm']} {one['eps']:.3g}", _percent(one["clean"]),
                      _percent(one["truth"]), _percent(one["suite_alone"]), _percent(one["shown"]),
                      "yes" if near(one) else "no", verdict, ", ".join(checks) or escape(one["said"][:60]),
                      f"{one['seconds']:.0f}")
    return drawn


def summary(records: Sequence[dict[str, Any]]) -> list[str]:
    """What is to be reached, and what was: sentences."""
    maskers = [one for one in records if one["kind"] != "honest"]
    honest = [one for one in records if one["kind"] == "honest"]
    found = []
    if maskers:
        out = [one["name"] for one in maskers if escapes(one)]
        shown = [one for one in maskers if one["shown"] is not None]
        found.append(f"{len(out)} of {len(maskers)} maskers escape by more than {100 * ESCAPE:g} points (to reach: 0)"
                     + (f": {', '.join(out)}." if out else "."))
        found.append(f"{sum(map(near, maskers))} of the {len(shown)} maskers with a number are shown within "
                     f"{100 * NEAR:g} points of the truth; {len(maskers) - len(shown)} are refused.")
    if honest:
        failed, warned = ([one["name"] for one in honest if one["verdict"] == verdict] for verdict in ("fail", "warn"))
        found.append(f"{len(failed)} of {len(honest)} honest nets fail (to reach: 0)"
                     + (f": {', '.join(failed)}" if failed else "") + f"; {len(warned)} are warned of; "
                     f"{sum(map(escapes, honest))} are shown more than {100 * ESCAPE:g} points too high, "
                     f"{sum(map(near, honest))} within {100 * NEAR:g} points.")
    return found


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
