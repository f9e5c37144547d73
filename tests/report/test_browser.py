"""The page in a real browser: the scatter is drawn, clicks select, nothing fails and nothing is fetched."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from parapet.config import ReportConfig
from parapet.report.page import render

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no /usr/bin/chromium")

# Real users click; a script that is let past the page's own policy clicks for them and writes down what it saw.
CLICKS = """
const seen = {};
const shown = () => [...document.querySelectorAll(".panel")].filter((panel) => !panel.hidden).map((panel) => panel.id);
const column = () => [...document.querySelector("table.sortable tbody").rows].map((row) => row.dataset.id);
scatter.emit("plotly_click", { points: [{ data: { meta: "front" }, customdata: "%(first)s" }] });
seen.panel = shown();
seen.rows = [...document.querySelectorAll("tr.selected")].map((row) => row.dataset.id);
seen.ring = scatter.layout.shapes.map((shape) => [shape.xanchor, shape.yanchor]);
seen.sizes = [...document.querySelectorAll("#scatter .shapelayer path")].map((path) => path.getBBox())
  .map((box) => [Math.round(box.width), Math.round(box.height)]);
document.querySelector("table.sortable th:nth-child(4) button").click();
seen.ascending = column();
document.querySelector("table.sortable th:nth-child(4) button").click();
seen.descending = column();
document.querySelector("[data-figure=pareto-latency]").click();
seen.axis = scatter.layout.xaxis.title.text;
scatter.emit("plotly_click", { points: [{ data: { meta: "archive" }, customdata: "%(other)s" }] });
seen.fold = document.getElementById("others").open;
document.documentElement.dataset.seen = JSON.stringify(seen);
"""


def browse(page: Path, *options: str, fragment: str = "") -> tuple[str, str]:
    """(the page's elements after its scripts ran, the browser's log)."""
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=3000", "--window-size=1400,2400",
         "--enable-logging=stderr", *options, "--dump-dom", page.as_uri() + fragment],
        capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-2000:]
    # plotly.js itself is five megabytes of text that no check below is about.
    return re.sub(r"<script>.*?</script>", "", done.stdout, flags=re.S), done.stderr


def test_the_page_draws_itself_without_errors_or_requests(made, tmp_path) -> None:
    page = tmp_path / "index.html"
    page.write_text(render(made.front, evaluations=made.evaluations, archive=made.archive, images=made.images,
                           config=ReportConfig()), encoding="utf-8")
    wanted = made.front["candidates"][1]["id"]
    dom, log = browse(page, fragment=f"#{wanted}")
    assert "data-error" not in dom
    assert "CONSOLE" not in log, [line for line in log.splitlines() if "CONSOLE" in line]
    drawn = dom.split('id="scatter"')[1].split('id="strip"')[0]
    members = made.front["candidates"]
    # Members, one variant, the undefended net and 38 of the archive.
    assert len(re.findall(r'<path class="point\b', drawn)) == len(members) + 1 + 1 + 38
    assert len(re.findall(r'<article class="panel"[^>]*hidden', dom)) == len(members) + 1
    strip = dom.split('id="strip"')[1].split("<h3>Members")[0]
    assert wanted in strip and f"../{made.front['candidates'][1]['onnx']}" in strip
    # plotly would offer to send the chart to its makers' server.
    assert "toImage" in dom or "Download plot" in dom
    assert not re.search(r"share chart|cloud\.plotly|chart-studio|plotly-cloud", dom, flags=re.I)
    assert not re.findall(r'(?:src|href)="https?://(?!127\.0\.0\.1:5000/)', dom)


def test_clicks_select_sort_and_switch(made, tmp_path) -> None:
    members = made.front["candidates"]
    other = next(record["id"] for record in made.archive
                 if record["validation"] and record["id"] not in {candidate["id"] for candidate in members})
    text = render(made.front, evaluations=made.evaluations, archive=made.archive, images={}, config=ReportConfig())
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    script = CLICKS % {"first": members[0]["id"], "other": other}
    page = tmp_path / "index.html"
    page.write_text(text.replace("</body>\n</html>", f"<script>{script}</script></body></html>"), encoding="utf-8")
    dom, _ = browse(page)
    assert "data-error" not in dom
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', dom)[1]))
    assert seen["panel"] == [members[0]["id"]]
    assert set(seen["rows"]) == {members[0]["id"]} and seen["sizes"] == [[24, 24]]
    assert seen["ring"] == [[members[0]["flops"], pytest.approx(members[0]["test"]["robust_accuracy"], abs=1e-3)]]
    ranked = [candidate["id"] for candidate in sorted(members, key=lambda item: item["test"]["robust_accuracy"])]
    assert seen["ascending"] == ranked and seen["descending"] == ranked[::-1]
    assert "latency" in seen["axis"] and seen["fold"] is True


LARGE = """
const seen = {};
const later = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
(async () => {
  const until = async (what) => { for (let turn = 0; turn < 200 && !what(); turn += 1) await later(25); };
  await until(() => scatter.emit && document.querySelector(".panel"));
  seen.first = [...document.querySelectorAll(".panel")].map((panel) => panel.id);
  scatter.emit("plotly_click", { points: [{ data: { meta: "front" }, customdata: "%(wanted)s" }] });
  await until(() => document.querySelector(".panel").id === "%(wanted)s");
  seen.panels = [...document.querySelectorAll(".panel")].map((panel) => panel.id);
  seen.plots = document.querySelectorAll("#unfolded .plot[data-drawn] svg.main-svg").length > 0;
  const fold = document.querySelector('details[data-fragment="attacks-left"]');
  fold.open = true;
  await until(() => fold.querySelector("table"));
  seen.rows = fold.querySelectorAll("tr[data-id]").length;
  scatter.emit("plotly_click", { points: [{ data: { meta: "archive" }, customdata: "%(other)s" }] });
  await until(() => document.querySelector("tr.selected[data-archive]"));
  seen.other = document.querySelectorAll("tr.selected[data-archive]").length;
  document.documentElement.dataset.seen = JSON.stringify(seen);
})();
"""


def test_a_large_front_is_unpacked_as_it_is_asked_for(make_study, tmp_path) -> None:
    made = make_study(members=70, rest=50, variants=0)
    members = made.front["candidates"]
    other = next(record["id"] for record in made.archive[70:] if record["validation"])
    text = render(made.front, evaluations=made.evaluations, archive=made.archive, images={}, config=ReportConfig())
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    page = tmp_path / "index.html"
    page.write_text(text.replace("</body>\n</html>", f"<script>{LARGE % {'wanted': members[3]['id'], 'other': other}}"
                                 "</script></body></html>"), encoding="utf-8")
    dom, _ = browse(page)
    assert "data-error" not in dom
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', dom)[1]))
    first = re.search(r'data-first="([0-9a-f]+)"', dom)[1]
    assert seen == {"first": [first], "panels": [members[3]["id"]], "plots": True, "rows": 71, "other": 1}


def test_a_large_page_keeps_its_policy(make_study, tmp_path) -> None:
    made = make_study(members=70, rest=0, variants=0)
    page = tmp_path / "index.html"
    page.write_text(render(made.front, evaluations=made.evaluations, archive=made.archive, images=made.images,
                           config=ReportConfig()), encoding="utf-8")
    dom, log = browse(page, fragment=f"#{made.front['candidates'][2]['id']}")
    assert "data-error" not in dom
    assert "CONSOLE" not in log, [line for line in log.splitlines() if "CONSOLE" in line]
    assert re.findall(r'<article class="panel" id="([0-9a-f]+)"', dom) == [made.front["candidates"][2]["id"]]


def _seen(made, script: str, tmp_path: Path) -> dict:
    """What `script`, let past the page's own policy, wrote down of the page of `made`."""
    text = render(made.front, evaluations=made.evaluations, archive=made.archive, images={}, config=ReportConfig())
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    page = tmp_path / "index.html"
    page.write_text(text.replace("</body>\n</html>", f"<script>{script}</script></body></html>"), encoding="utf-8")
    dom, _ = browse(page)
    return json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', dom)[1]))


HIDDEN_ROW = """
(async () => {
  const seen = {}, until = async (what) => { while (!what()) await new Promise((done) => setTimeout(done, 25)); };
  await until(() => scatter.emit && scatter.dataset.drawn);
  for (const fold of document.querySelectorAll("details[data-fragment]")) await unfold(fold);
  const row = [...document.querySelectorAll("table.short tr[data-archive]")].at(-1);
  seen.before = getComputedStyle(row).display;
  scatter.emit("plotly_click", { points: [{ data: { meta: "archive" }, customdata: row.dataset.archive }] });
  await until(() => row.classList.contains("selected"));
  seen.after = getComputedStyle(row).display;
  document.documentElement.dataset.seen = JSON.stringify(seen);
})();
"""


def test_a_click_on_an_archive_point_shows_its_row_wherever_it_lies(make_study, tmp_path) -> None:
    made = make_study(members=40, rest=300, variants=0)
    seen = _seen(made, HIDDEN_ROW, tmp_path)
    assert seen == {"before": "none", "after": "table-row"}


ROWS = """
const visible = () => [...document.querySelector("table.sortable tbody").rows].filter((row) => row.offsetHeight).length;
const seen = { before: visible(), button: document.querySelector("button.all").textContent };
document.querySelector("button.all").click();
seen.after = visible();
document.documentElement.dataset.seen = JSON.stringify(seen);
"""


def test_a_long_table_shows_its_first_rows_until_all_are_asked_for(make_study, tmp_path) -> None:
    made = make_study(members=160, rest=5, variants=0)
    seen = _seen(made, ROWS, tmp_path)
    assert seen == {"before": 100, "button": "Show all 160 rows", "after": 160}
