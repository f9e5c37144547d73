"use strict";
// An error is written to an attribute of the root element, where tests and readers can find it.
addEventListener("error", (event) => { document.documentElement.dataset.error = event.message; });
addEventListener("unhandledrejection", (event) => { document.documentElement.dataset.error = String(event.reason); });

const figures = JSON.parse(document.getElementById("figures").textContent);
const panels = new Map([...document.querySelectorAll(".panel")].map((panel) => [panel.dataset.id, panel]));
const scatter = document.getElementById("scatter");
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
// The buttons are listed one by one: plotly's default has one that sends the data to a server.
const buttons = [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]];
const settings = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", modeBarButtons: buttons };
// A large front packs its panels and tables: {groups, of}, see packing.py.
const packed = JSON.parse((document.getElementById("packed") || { textContent: '{"groups":[],"of":{}}' }).textContent);
const opened = new Map();
// Number of rows that a long table shows at first; page.css has the same number.
const SHORT = 100;
let selected = null;
// Radius 12 pixels. A plotly circle loses its left half on a logarithmic axis, where plotly takes pixels for values.
const CIRCLE = "M-12,0C-12,6.6 -6.6,12 0,12C6.6,12 12,6.6 12,0C12,-6.6 6.6,-12 0,-12C-6.6,-12 -12,-6.6 -12,0Z";

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Python makes the figures once; the colours of text and grid depend on the reader's theme, the sizes on the window.
function themed(figure) {
  const layout = structuredClone(figure.layout);
  const [ink, soft, line, card] = ["--ink", "--soft", "--line", "--card"].map(colour);
  layout.font.color = ink;
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: card, bordercolor: soft, font: { color: ink, family: layout.font.family } };
  layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink };
  for (const name of ["xaxis", "yaxis"]) {
    Object.assign(layout[name], { gridcolor: line, linecolor: line, tickfont: { color: soft } });
  }
  for (const note of layout.annotations || []) note.font = { color: soft, size: 12 };
  layout.dragmode = narrow.matches ? false : "zoom";
  const data = structuredClone(figure.data);
  layout.shapes = [...(layout.shapes || []), ...ring(figure)];
  for (const trace of data) {
    if (narrow.matches && trace.marker && trace.marker.colorbar) {
      Object.assign(trace.marker.colorbar, { orientation: "h", y: 1.01, yanchor: "bottom", thickness: 8, len: 1 });
      trace.marker.colorbar.title.side = "top";
      layout.margin.t = 70;
      layout.height += 130;
      layout.legend.y = -0.14;
    }
  }
  return { data, layout };
}

// A shape and not a trace: a new trace makes plotly draw every point again, a new shape does not.
function ring(figure) {
  for (const trace of figure.data) {
    const at = trace.meta === "archive" ? -1 : (trace.customdata || []).indexOf(selected);
    if (at >= 0) {
      return [{
        type: "path", path: CIRCLE, xref: "x", yref: "y", xsizemode: "pixel", ysizemode: "pixel",
        xanchor: trace.x[at], yanchor: trace.y[at], line: { width: 2.5, color: colour("--ink") },
      }];
    }
  }
  return [];
}

async function inflated(group) {
  const bytes = Uint8Array.from(atob(group), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// {html, figures} of a panel or a table that is packed.
async function part(name) {
  const group = packed.of[name];
  if (!opened.has(group)) opened.set(group, inflated(packed.groups[group]));
  return (await opened.get(group))[name];
}

const known = (id) => panels.has(id) || (Object.hasOwn(packed.of, id) && document.getElementById("unfolded") !== null);

async function unpacked(id) {
  const found = await part(id);
  Object.assign(figures, found.figures);
  const holder = document.createElement("template");
  holder.innerHTML = found.html;
  return holder.content.querySelector(".panel");
}

async function unfold(fold) {
  if (!fold.dataset.fragment) return;
  const name = fold.dataset.fragment;
  delete fold.dataset.fragment;
  const { html } = await part(name);
  fold.insertAdjacentHTML("beforeend", html);
  sortable(fold);
  for (const row of fold.querySelectorAll("tr[data-id]")) row.classList.toggle("selected", row.dataset.id === selected);
}

function draw(plot) {
  const figure = figures[plot.dataset.figure];
  if (!figure) return;
  const { data, layout } = themed(figure);
  Plotly.react(plot, data, layout, { ...settings, displayModeBar: plot === scatter ? "hover" : false });
  plot.dataset.drawn = plot.dataset.figure;
}

function redraw() {
  for (const plot of document.querySelectorAll(".plot[data-drawn]")) draw(plot);
}

async function select(id, options = {}) {
  if (!known(id)) return;
  selected = id;
  if (panels.has(id)) show(id, panels.get(id), options);
  else {
    const panel = await unpacked(id);
    if (selected === id) show(id, panel, options);
  }
}

function show(id, panel, { scroll = false, remember = true } = {}) {
  for (const [key, other] of panels) other.hidden = key !== id;
  if (!panels.has(id)) document.getElementById("unfolded").replaceChildren(panel);
  for (const row of document.querySelectorAll("tr[data-id]")) row.classList.toggle("selected", row.dataset.id === id);
  const strip = document.getElementById("strip");
  strip.replaceChildren(...[...panel.querySelector("header").children].map((part) => part.cloneNode(true)));
  const more = document.createElement("a");
  more.href = "#candidate";
  more.textContent = "attacks, audit, images ↓";
  more.className = "more";
  strip.querySelector(".links").append(more);
  if (scatter.dataset.drawn) Plotly.relayout(scatter, { shapes: ring(figures[scatter.dataset.drawn]) });
  // A hidden element has no width to draw in, so a panel's plots are drawn when it is first shown.
  panel.querySelectorAll(".plot").forEach(draw);
  if (remember && location.hash.slice(1) !== id) {
    // A page in a sandboxed frame may not change its address; the selection works without it.
    try { history.replaceState(null, "", "#" + id); } catch { /* the address stays as it is */ }
  }
  if (scroll) document.getElementById("candidate").scrollIntoView({ behavior: "smooth", block: "start" });
}

async function showInArchive(id) {
  for (const fold of document.querySelectorAll("#archive details[data-fragment]")) await unfold(fold);
  const row = document.querySelector(`tr[data-archive="${CSS.escape(id)}"]`);
  if (!row) return;
  for (const other of document.querySelectorAll("tr.selected[data-archive]")) other.classList.remove("selected");
  const fold = row.closest("details");
  if (fold) fold.open = true;
  const table = row.closest("table.short");
  if (table && row.sectionRowIndex >= SHORT) table.nextElementSibling.click();
  row.classList.add("selected");
  row.scrollIntoView({ behavior: "smooth", block: "center" });
}

function sort(table, column, heading) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const keyed = [...table.tBodies[0].rows].map((row) => [row.cells[column].dataset.sort, row]);
  const numeric = keyed.every(([key]) => key !== "" && !Number.isNaN(Number(key)) && heading.classList.contains("right"));
  keyed.sort(([a], [b]) => (numeric ? a - b : a.localeCompare(b)) * (descending ? -1 : 1));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

function sortable(root) {
  for (const table of root.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      if (heading.classList.contains("still")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      heading.replaceChildren(button);
      button.addEventListener("click", () => sort(table, column, heading));
    });
    shorten(table);
  }
}

// A browser needs a quarter of a second to lay out 500 rows, each time that they are sorted.
function shorten(table) {
  const count = table.tBodies[0].rows.length;
  if (count <= 150) return;
  const all = document.createElement("button");
  all.type = "button";
  all.className = "all";
  all.textContent = `Show all ${count} rows`;
  all.addEventListener("click", () => {
    table.classList.remove("short");
    all.remove();
  });
  table.classList.add("short");
  table.after(all);
}
sortable(document);
for (const fold of document.querySelectorAll("details[data-fragment]")) fold.addEventListener("toggle", () => unfold(fold));
document.querySelector("main").addEventListener("click", (event) => {
  const row = event.target.closest("table.pick tbody tr");
  if (row && !event.target.closest("a")) select(row.dataset.id, { scroll: true });
});
for (const group of document.querySelectorAll(".switch")) {
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
    const plot = document.getElementById(group.dataset.target);
    plot.dataset.figure = button.dataset.figure;
    draw(plot);
  });
}
addEventListener("hashchange", () => select(location.hash.slice(1), { scroll: true }));
dark.addEventListener("change", redraw);
narrow.addEventListener("change", redraw);

async function start() {
  if (Object.hasOwn(packed.of, "figures")) Object.assign(figures, (await part("figures")).figures);
  const wanted = location.hash.slice(1);
  draw(scatter);
  draw(document.getElementById("volume"));
  select(known(wanted) ? wanted : document.body.dataset.first, { scroll: known(wanted), remember: false });
  scatter.on("plotly_click", (event) => {
    const point = event.points[0];
    if (point.data.meta === "archive") showInArchive(point.customdata);
    else select(point.customdata);
  });
}

start();
