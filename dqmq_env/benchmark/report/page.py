"""What the page of a report looks like, and how it behaves: style and script, written into it."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #57606a; --paper: #ffffff;
  --panel: #f6f8fa; --line: #d8dee4; --link: #0060a8; --warn: #fff4d6; --edge: #d4a72c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4af; --paper: #0f141a;
  --panel: #171d25; --line: #303842; --link: #6cb6ff; --warn: #33290f; --edge: #8f6f14; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: 1rem; }
.frame { max-width: 1440px; margin: 0 auto; padding: 2rem 1.5rem 5rem; }
@media (min-width: 1180px) { .frame { display: grid; grid-template-columns: 160px minmax(0, 1fr);
  column-gap: 2rem; } nav { position: sticky; top: 2rem; align-self: start; } }
nav ul { list-style: none; margin: 0 0 2rem; padding: 0; font-size: .92rem; }
nav li { margin: .35rem 0; }
nav a { text-decoration: none; }
a { color: var(--link); }
a:hover { text-decoration: underline; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.4rem; margin: 3.2rem 0 .4rem; padding-top: 1.2rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p { margin: .5rem 0 1rem; max-width: 75ch; }
.reading, .lead { color: var(--soft); }
.warning { background: var(--warn); border-left: 4px solid var(--edge); border-radius: 4px;
  padding: .7rem 1.1rem; margin: 1.2rem 0; }
.warning ul { margin: .3rem 0; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: 1rem 0 1.6rem; }
table { border-collapse: collapse; font-size: .82rem; min-width: min(100%, 40rem); }
caption { text-align: left; color: var(--soft); padding: 0 0 .5rem; max-width: 80ch; }
th, td { padding: .4rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { text-align: left; vertical-align: bottom; border-bottom: 2px solid var(--line); padding: 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { text-align: right; }
td:first-child { font-weight: 600; white-space: nowrap; }
th button { all: unset; cursor: pointer; display: block; padding: .4rem .5rem; font-weight: 600; }
th button:focus-visible, select:focus-visible { outline: 2px solid var(--link); }
th button::after { content: "\\a0\\2195"; color: var(--soft); font-weight: 400; opacity: .55; }
th[aria-sort="ascending"] button::after { content: "\\a0\\2191"; opacity: 1; }
th[aria-sort="descending"] button::after { content: "\\a0\\2193"; opacity: 1; }
tbody tr:hover { background: var(--panel); }
figure { margin: 1rem 0 1.8rem; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 80ch; }
.plot { min-width: 560px; }
.choices { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; margin: .3rem 0; }
.choices label { font-size: .9rem; color: var(--soft); }
select { font: inherit; color: var(--ink); background: var(--panel); padding: .25rem .5rem;
  border: 1px solid var(--line); border-radius: 6px; max-width: 32rem; }
.sign { display: inline-block; width: 1.1em; margin-right: .3em; text-align: center; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem 1rem; overflow-x: auto; }
td.long { overflow-wrap: anywhere; min-width: 11rem; }
@media print { nav, .choices { display: none; } .frame { display: block; } }
"""

SCRIPT: Final = """
"use strict";
const plots = JSON.parse(document.getElementById("plots").textContent);
const night = matchMedia("(prefers-color-scheme: dark)");

function coloured(figure) {
  const text = JSON.stringify(figure);
  return JSON.parse(night.matches
    ? text.replaceAll("#57606a", "#9aa4af").replaceAll("#ffffff", "#0f141a") : text);
}

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const own = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: own("--line"), linecolor: own("--line"), zeroline: false,
    automargin: true };
  const dressed = { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: own("--ink") },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: own("--line"), activecolor: own("--soft") },
    hoverlabel: { bgcolor: own("--panel"), bordercolor: own("--line"),
      font: { color: own("--ink") } } };
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis/.test(key)) {
      const title = { ...layout[key].title, font: { size: 13 } };
      dressed[key] = { ...axis, ...layout[key], title };
    }
  }
  return dressed;
}

// Of the last choice, only what there is beside the others can be chosen.
function figureOf(place) {
  const figures = plots[place.dataset.plot];
  const selects = [...place.querySelectorAll("select")];
  const last = selects.pop();
  if (last === undefined) return figures[""];
  const key = (option) => [...selects.map((select) => select.value), option.value].join(",");
  for (const option of last.options) option.disabled = figures[key(option)] === undefined;
  if (last.selectedOptions[0].disabled) {
    const free = [...last.options].find((option) => !option.disabled);
    if (free !== undefined) free.selected = true;
  }
  return figures[key(last.selectedOptions[0])];
}

function draw(place) {
  const own = figureOf(place);
  const target = place.querySelector(".plot");
  place.querySelector(".missing").hidden = own !== undefined;
  target.hidden = own === undefined;
  if (own === undefined) return;
  const figure = coloured(own);
  Plotly.react(target, figure.data, themed(figure.layout),
    { responsive: true, displaylogo: false, displayModeBar: "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
}

function sortBy(table, column, head) {
  const up = head.getAttribute("aria-sort") !== "ascending";
  const value = (row) => {
    const cell = row.cells[column];
    return "order" in cell.dataset ? Number(cell.dataset.order) : cell.textContent;
  };
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const order = typeof x === "number" && typeof y === "number"
      ? (x === y ? 0 : x - y) : String(x).localeCompare(String(y));
    return up ? order : -order;
  });
  table.tBodies[0].append(...rows);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}

for (const place of document.querySelectorAll("[data-plot]")) {
  for (const select of place.querySelectorAll("select")) {
    select.addEventListener("change", () => draw(place));
  }
  draw(place);
}
night.addEventListener("change", () => {
  document.querySelectorAll("[data-plot]").forEach(draw);
});
for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sortBy(table, column, head));
  });
}
"""
