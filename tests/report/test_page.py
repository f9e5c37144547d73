"""The HTML page: whole, escaped, offline, and true to front.json."""

from __future__ import annotations

import base64
import json
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from parapet.config import ReportConfig
from parapet.errors import InputError
from parapet.report import page
from parapet.report.images import AdversarialImages
from parapet.report.page import render

HOSTILE = "</script><img src=x onerror=\"alert('1')\">&<b>"
VOID = {"meta", "link", "img", "br"}


def unpacked(parsed: Page) -> dict[str, dict]:
    """Every part of a folded page by name, as its script opens them."""
    packed = json.loads(next(text for values, text in parsed.scripts if values.get("id") == "packed"))
    groups = [json.loads(zlib.decompress(base64.b64decode(group))) for group in packed["groups"]]
    assert {name: place for place, group in enumerate(groups) for name in group} == packed["of"]
    return {name: part for group in groups for name, part in group.items()}


class Page(HTMLParser):
    """The page's elements, its addresses, and the text of each row, panel and section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.addresses: list[str] = []
        self.rows: dict[str, list[str]] = {}
        self.panels: dict[str, str] = {}
        self.links: dict[str, list[str]] = {}
        self.scripts: list[tuple[dict, str]] = []
        self.stack: list[tuple[str, dict]] = []
        self.feed(html)
        self.close()
        assert not self.stack, f"left open: {self.stack}"

    def handle_starttag(self, tag: str, attributes: list) -> None:
        values = dict(attributes)
        self.elements.append((tag, values))
        self.addresses += [values[name] for name in ("href", "src", "action", "data", "srcset") if values.get(name)]
        if tag == "script":
            self.scripts.append((values, ""))
        if tag == "tr" and "data-id" in values:
            self.rows.setdefault(values["data-id"], []).append("")
        inside = self._inside("article")
        if inside and tag == "a":
            self.links.setdefault(inside["data-id"], []).append(values["href"])
        if tag not in VOID:
            self.stack.append((tag, values))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack[-1][0] == tag, f"</{tag}> closes {self.stack[-1:]}"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        if self._inside("script") is not None:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        row, panel = self._inside("tr"), self._inside("article")
        if row and "data-id" in row:
            self.rows[row["data-id"]][-1] += data
        if panel:
            self.panels[panel["data-id"]] = self.panels.get(panel["data-id"], "") + data

    def _inside(self, tag: str) -> dict | None:
        return next((values for name, values in reversed(self.stack) if name == tag), None)


def rendered(made, **changes) -> str:
    arguments = {"evaluations": made.evaluations, "archive": made.archive, "images": made.images,
                 "config": ReportConfig()}
    return render(made.front, **{**arguments, **changes})


@pytest.fixture(scope="module")
def standard(make_study):
    """(study, HTML, elements) for the tests that only look; a page takes most of a second to make."""
    made = make_study()
    html = rendered(made)
    return made, html, Page(html)


def test_page_refers_to_nothing_on_a_network_but_mlflow(standard) -> None:
    made, html, parsed = standard
    runs = {candidate["mlflow_run_id"] for candidate in made.front["candidates"]} | {
        made.front["undefended"]["mlflow_run_id"]}
    for address in parsed.addresses:
        if address.startswith("http://127.0.0.1:5000/#/experiments/1/runs/"):
            assert address.rsplit("/", 1)[1] in runs
        else:
            assert address.startswith(("#", "../", "cards/", "data:")), address
    policy = next(values["content"] for tag, values in parsed.elements
                  if values.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert not [values for tag, values in parsed.elements if tag in ("iframe", "object", "embed", "form", "base")]
    assert len(html) < 8_000_000


def test_plotly_is_inlined_once(standard) -> None:
    scripts = [text for _, text in standard[2].scripts]
    assert sum("plotly.js v" in text[:200] for text in scripts) == 1
    assert len(scripts) == 3


def test_every_candidate_has_rows_a_panel_and_links(standard) -> None:
    made, _, parsed = standard
    front = made.front
    for candidate in [*front["candidates"], *front["variants"], front["undefended"]]:
        links = parsed.links[candidate["id"]]
        assert {f"../{candidate[name]}" for name in ("onnx", "weights", "evaluation")} <= set(links)
        assert (f"cards/{candidate['id']}.html" in links) == (candidate is not front["undefended"])
        run = f"http://127.0.0.1:5000/#/experiments/1/runs/{candidate['mlflow_run_id']}"
        assert (run in links) == (candidate["mlflow_run_id"] is not None)
        # A row in the table of the front, or of the variants (the undefended net has none there), and one in each
        # table of attacks: alone, and left; a variant has met every attack alone.
        expected = 2 if candidate is front["undefended"] or candidate["derived_from"] else 3
        assert len(parsed.rows[candidate["id"]]) == expected
        for gene in candidate["genome"]:
            assert gene in parsed.panels[candidate["id"]]


def test_numbers_of_the_page_are_those_of_the_front(standard) -> None:
    made, _, parsed = standard
    for candidate in [*made.front["candidates"], *made.front["variants"]]:
        table, alone, *left = parsed.rows[candidate["id"]]
        test = candidate["test"]
        for kind, attacks in (("clean", alone), ("robust", left[0] if left else alone)):
            low, high = test[f"{kind}_interval"]
            shown = f"{100 * test[f'{kind}_accuracy']:.1f} % {100 * low:.1f}–{100 * high:.1f} %"
            assert shown in table and shown in attacks and shown in parsed.panels[candidate["id"]]
        for shares in test["attacks"].values():
            if shares["alone"] is not None:
                assert f"{100 * shares['alone']:.1f} %" in alone
            else:
                assert f"{100 * shares['left']:.1f} %" in left[0]
        if candidate["derived_from"]:
            assert candidate["note"] in parsed.panels[candidate["id"]]
            continue
        for check in made.evaluations[candidate["id"]]["audit"]["checks"]:
            assert check["id"] in parsed.panels[candidate["id"]]
            assert check["advice"] in parsed.panels[candidate["id"]]
        assert "deepfool 0.231 (linf)" in parsed.panels[candidate["id"]]
        assert candidate["latency_ms"]["machine"] in parsed.panels[candidate["id"]]


def test_headline_says_threat_attacks_n_and_interval(standard) -> None:
    made, html, _ = standard
    text = " ".join(html.split('<section class="headline"')[1].split("</section>")[0].split())
    front = made.front
    assert "L-inf, eps = 0.2" in text and ", ".join(front["undefended"]["test"]["attacks"]) in text
    best = max(front["candidates"],
               key=lambda candidate: candidate["validation"]["robust_accuracy"])
    for candidate in (front["undefended"], best):
        low, high = candidate["test"]["robust_interval"]
        assert f"95 % interval {100 * low:.1f}–{100 * high:.1f} %, n = 360" in text


def test_headline_names_the_best_of_validation_and_passes_over_failed_audits(made) -> None:
    own = made.front["candidates"]
    ranked = sorted(own, key=lambda candidate: candidate["validation"]["robust_accuracy"])
    own[0]["test"]["robust_accuracy"] = 0.99
    ranked[-1]["audit"]["verdict"] = "fail"
    assert f'<body data-first="{ranked[-2]["id"]}">' in rendered(made)


def test_hostile_strings_are_escaped(made) -> None:
    front = made.front
    candidate = front["candidates"][0]
    candidate.update(description=HOSTILE, weights="javascript:alert(1)", mlflow_run_id='"><script>x')
    candidate["audit"] = {"verdict": "warn", "reasons": [HOSTILE]}
    candidate["latency_ms"]["machine"] = HOSTILE
    candidate["test"]["attacks"][HOSTILE] = {"alone": 0.5, "left": None}
    front["data"].update(name=HOSTILE, classes=[HOSTILE] * 10)
    made.archive[-1].update(status="infeasible", reason=HOSTILE)
    check = made.evaluations[candidate["id"]]["audit"]["checks"][0]
    check.update(id=HOSTILE, advice=HOSTILE, numbers={HOSTILE: HOSTILE})
    parsed = Page(rendered(made, config=ReportConfig(title=HOSTILE)))
    assert len(parsed.scripts) == 3
    assert not [values for _, values in parsed.elements if any(name.startswith("on") for name in values)]
    assert all(values["src"].startswith("data:image/png") for tag, values in parsed.elements if tag == "img")
    assert "../javascript%3Aalert%281%29" in parsed.addresses
    assert HOSTILE in parsed.panels[candidate["id"]]
    figures = json.loads(next(text for values, text in parsed.scripts if values.get("id") == "figures"))
    hover = figures["pareto-flops"]["data"][2]["hovertext"]
    assert any("&lt;img" in text for text in hover) and not any("<img" in text for text in hover)


def test_untracked_candidates_say_so(make_study) -> None:
    html = rendered(make_study(members=2, tracked=False))
    assert "not tracked" in html and "http://127.0.0.1" not in html
    parsed = Page(html)
    assert all(address.startswith(("#", "../", "cards/", "data:")) for address in parsed.addresses)


def test_run_links_go_to_the_server_given(make_study) -> None:
    made = make_study(members=2)
    html = rendered(made, mlflow_ui="https://mlflow.example/prefix/")
    run = made.front["candidates"][0]["mlflow_run_id"]
    assert f'href="https://mlflow.example/prefix/#/experiments/1/runs/{run}"' in html
    with pytest.raises(InputError, match="http:// or https://"):
        rendered(made, mlflow_ui="javascript:alert(1)//")


def test_a_front_of_one_without_images_evaluations_or_archive(make_study) -> None:
    made = make_study(members=1, rest=0, variants=0)
    html = rendered(made, evaluations={}, archive=[], images={})
    parsed = Page(html)
    assert len(parsed.rows[made.front["candidates"][0]["id"]]) == 3
    assert "1 candidate on the front" in html and "No images were kept" in html and "No curve was measured" in html
    assert "Every measured candidate is on the front" in html
    assert not [values for tag, values in parsed.elements if tag == "img"]


def test_infeasible_candidates_stand_with_their_reason(standard) -> None:
    made, html, _ = standard
    for record in made.archive:
        assert (record["id"] in html) and (record["reason"] is None or record["reason"] in html)


def test_variants_stand_apart_from_the_front(standard) -> None:
    made, html, parsed = standard
    variant = made.front["variants"][0]
    front, apart = html.split("<h3>Quantised variants</h3>")
    assert f'<tr data-id="{variant["id"]}">' not in front
    assert f'<tr data-id="{variant["id"]}">' in apart.split('id="candidate"')[0]
    figures = json.loads(next(text for values, text in parsed.scripts if values.get("id") == "figures"))
    members = next(trace for trace in figures["pareto-flops"]["data"] if trace.get("meta") == "front")
    assert variant["id"] not in members["customdata"]


def test_the_page_shows_as_many_images_as_configured_and_stays_small(make_study) -> None:
    made = make_study(members=2)

    def images(html: str) -> int:
        return sum(tag == "img" for tag, _ in Page(html).elements)

    assert images(rendered(made, config=ReportConfig(images=3))) == 3 * 3 * len(made.images)
    assert images(rendered(made, config=ReportConfig(images=0))) == 0
    random = np.random.default_rng(0)
    noise = random.random((8, 3, 32, 32))
    heavy = AdversarialImages(noise, noise, np.zeros(8, int), np.zeros(8, int), np.ones(8, int), "pgd")
    shown = page._within_budget(made.front, dict.fromkeys(made.images, heavy), 8, 200_000)
    assert 0 < sum(map(page._weight, shown.values())) <= 200_000
    assert len({len(row) for row in shown.values()}) == 1


@pytest.fixture(scope="module")
def large(make_study):
    """(study, HTML) of a front that is folded, over an archive of which a part is drawn."""
    made = make_study(members=80, rest=2600, variants=80)
    for record in made.archive[-300:]:
        record.update(status="infeasible", reason="out of memory")
    return made, rendered(made)


def test_a_large_front_is_folded_and_holds_the_same(large) -> None:
    made, html = large
    parsed = Page(html)
    parts, front = unpacked(parsed), made.front
    everyone = [*front["candidates"], *front["variants"], front["undefended"]]
    # Without JavaScript: a row with the numbers, and the card, of each member.
    assert set(parsed.rows) == {candidate["id"] for candidate in front["candidates"]} and parsed.panels == {}
    assert f"cards/{front['candidates'][0]['id']}.html" in parsed.addresses
    for candidate in everyone:
        part = parts[candidate["id"]]
        inside = Page(part["html"])
        low, high = candidate["test"]["robust_interval"]
        shown = f"{100 * candidate['test']['robust_accuracy']:.1f} % {100 * low:.1f}–{100 * high:.1f} %"
        assert shown in inside.panels[candidate["id"]]
        assert f"../{candidate['onnx']}" in inside.links[candidate["id"]]
        assert f"attacks-{candidate['id']}" in part["figures"]
        if not candidate["derived_from"]:
            assert {f"curve-{candidate['id']}", f"steps-{candidate['id']}"} < set(part["figures"])
    for name, rows in (("variants", 80), ("attacks-alone", 81), ("attacks-left", 81), ("attacks-variants", 80)):
        assert len(Page(parts[name]["html"]).rows) == rows
    assert {"pareto-flops", "pareto-latency", "hypervolume-generation"} <= set(parts["figures"]["figures"])
    for name in parts:
        assert name == "figures" or name in {entry["id"] for entry in everyone} or f'data-fragment="{name}"' in html


def test_of_a_large_archive_a_part_is_drawn_and_said_so(large) -> None:
    made, html = large
    parts = unpacked(Page(html))
    others = sum(1 for record in made.archive[80:] if record["validation"])
    faint = parts["figures"]["figures"]["pareto-flops"]["data"][0]
    assert len(faint["x"]) == page.LISTED == parts["others"]["html"].count("<tr data-archive=")
    assert f"2,000 drawn at random of the {others:,} other candidates" in html
    assert f"2,000 of {others:,} candidates that are not on the front" in html
    assert html == rendered(made)  # the same every time


def test_a_large_page_grows_little_with_its_front(large) -> None:
    made, html = large
    plotly = len(page._plotly())
    assert len(html.encode()) - plotly < 2_500_000
    figures = sum(len(json.dumps(part["figures"])) for part in unpacked(Page(html)).values())
    assert figures > 1_000_000  # packed, they take a tenth


def test_hostile_strings_are_escaped_in_what_is_packed(make_study) -> None:
    made = make_study(members=70, rest=5, variants=0)
    made.front["candidates"][0]["description"] = HOSTILE
    html = rendered(made)
    part = unpacked(Page(html))[made.front["candidates"][0]["id"]]["html"]
    parsed = Page(part)
    assert HOSTILE in parsed.panels[made.front["candidates"][0]["id"]]
    assert not [values for _, values in parsed.elements if any(name.startswith("on") for name in values)]
    assert len(Page(html).scripts) == 4
