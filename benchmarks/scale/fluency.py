"""How long a page of a report keeps its reader waiting, measured inside Chromium and told to a server of ours."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
# Milliseconds; what the Web Vitals call good for an interaction and for the largest part of a page to be seen
# (web.dev/articles/inp, web.dev/articles/lcp).
LONGEST_ANSWER, LONGEST_LOAD = 200.0, 2500.0
_TRIES = 15
# Each act is timed from its event to the frame after the one that shows what it did; the middle of several counts.
_SCRIPT = """
const shown = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
const settled = async (ready) => {
  const end = performance.now() + 60000;
  do await shown(); while (!ready() && performance.now() < end);
  if (!ready()) throw new Error(`after a minute there was no end of: ${ready}`);
};
const nth = (list) => list[turn % list.length];
const heading = () => document.querySelector("table.sortable th:nth-child(4) button");
let turn = 0;
const acts = {
  "select a member": async () => {
    const id = nth(document.querySelector("table.sortable").tBodies[0].rows).dataset.id;
    scatter.emit("plotly_click", { points: [{ data: { meta: "front" }, customdata: id }] });
    await settled(() => selected === id && document.getElementById("strip").textContent.includes(id.slice(0, 8)));
  },
  "switch the axis": async () => {
    nth(document.querySelectorAll("[data-target=scatter] [data-figure]")).click();
    await shown();
  },
  "sort the table": async () => { heading().click(); await shown(); },
  "scroll a screen": async () => { scrollBy({ top: turn % 2 ? -900 : 900, behavior: "instant" }); await shown(); },
};
async function measure() {
  await settled(() => scatter.dataset.drawn !== undefined);
  const found = { load: performance.now(), drawn: document.querySelectorAll(".point").length, acts: {} };
  for (const [name, act] of Object.entries(acts)) {
    const times = [];
    for (turn = 1; turn <= TRIES; turn += 1) {
      const begun = performance.now();
      await act();
      times.push(performance.now() - begun);
      await shown();
    }
    found.acts[name] = times;
  }
  return found;
}
measure().catch((error) => ({ error: String(error) }))
  .then((found) => fetch("/found", { method: "POST", body: JSON.stringify(found) }));
"""


def measured(page: Path) -> dict[str, Any]:
    """{load: ms, drawn: points, acts: {name: ms of each try}} of the page at `page`.

    Raises RuntimeError where the page, or Chromium, did not get so far.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    before, end, after = text.rpartition("</body>")
    text = f"{before}<script>{_SCRIPT.replace('TRIES', str(_TRIES))}</script>{end}{after}"
    found: list[dict[str, Any]] = []
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        """Serves the page, and hears what it measured."""

        def do_GET(self) -> None:  # noqa: N802  http.server's own name
            self._answer(200 if self.path == "/" else 404, text.encode() if self.path == "/" else b"")

        def do_POST(self) -> None:  # noqa: N802  http.server's own name
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(204, b"")
            ended.set()

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  http.server's own name
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server, tempfile.TemporaryDirectory() as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = subprocess.Popen(
            [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={profile}", "--window-size=1400,1000", "--remote-debugging-port=0",
             f"http://127.0.0.1:{server.server_port}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ended.wait(300)
        browser.terminate()
        browser.wait(60)
        server.shutdown()
    if not found or "error" in found[0]:
        raise RuntimeError(f"Chromium told nothing of {page}" if not found else found[0]["error"])
    return found[0]


def told(page: Path) -> bool:
    """Print a line for loading and each act of the page at `page`; whether all kept their limits."""
    if not CHROMIUM.exists():
        print(f"  not opened: there is no {CHROMIUM}")
        return True
    found = measured(page)
    middles = {name: sorted(times)[len(times) // 2] for name, times in found["acts"].items()}
    print(f"  load: {found['load']:.0f} ms of {LONGEST_LOAD:.0f}, {found['drawn']} points drawn")
    for name, middle in middles.items():
        print(f"  {name}: {middle:.0f} ms of {LONGEST_ANSWER:.0f}, longest of {_TRIES}: {max(found['acts'][name]):.0f}",
              flush=True)
    return found["load"] <= LONGEST_LOAD and max(middles.values()) <= LONGEST_ANSWER
