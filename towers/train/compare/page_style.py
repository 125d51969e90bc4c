"""The look of the page and its few lines of script."""

from __future__ import annotations

CSS = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:84rem;margin:0 auto;padding:1.5rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0 1rem}
h2{font-size:1.3rem;margin:2.5rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--grid)}
h3{font-size:1.02rem;margin:1.5rem 0 .4rem}
p,li{max-width:75ch}
ul{padding-left:1.2rem;margin:.5rem 0}
li{margin:.3rem 0}
a{color:var(--series-1)}
.quiet{color:var(--muted);font-size:.9rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,10.5rem),1fr));gap:.75rem;margin:1rem 0}
.card,figure,.scroll,details{background:var(--surface);border:1px solid var(--grid);border-radius:.5rem}
.card{padding:.75rem 1rem}
.card small{display:block;color:var(--muted)}
.card b{display:block;font-size:1.1rem;overflow-wrap:anywhere}
.tasks{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,34rem),1fr));gap:0 2.5rem}
.tasks section{min-width:0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:.75rem;margin:1rem 0}
figure{margin:0;padding:.75rem;min-width:0}
figure svg{display:block;width:100%;height:auto;max-width:33rem;margin:.5rem auto}
figure svg *{stroke-linejoin:round;stroke-linecap:butt}
figure b{font-size:.98rem}
figcaption{color:var(--muted);font-size:.85rem}
.tip:hover{opacity:.6}
.scroll{overflow-x:auto;margin:1rem 0;width:fit-content;max-width:100%}
table{border-collapse:separate;border-spacing:0;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .55rem;text-align:right;vertical-align:top;border-bottom:1px solid var(--grid);white-space:nowrap}
tbody tr:last-child td{border-bottom:0}
th{vertical-align:bottom;font-weight:600;line-height:1.25}
th button{all:unset;cursor:pointer;white-space:normal}
th button:focus-visible{outline:2px solid var(--series-1)}
th[aria-sort=ascending] button::after{content:" ▲"}
th[aria-sort=descending] button::after{content:" ▼"}
td small{display:block;color:var(--muted);font-size:.78rem}
.words{text-align:left;white-space:normal;min-width:11rem;overflow-wrap:anywhere}
td.words:last-child{min-width:12rem}
.row{position:sticky;left:0;background:var(--surface);z-index:1}
.marked td{background:var(--mark)}
.marked .row{box-shadow:inset 3px 0 var(--series-1);font-weight:600}
.marked .row small{font-weight:400}
.good{color:var(--good)}.bad,.failed{color:var(--bad)}
details{margin:1rem 0;padding:.6rem 1rem}
summary{cursor:pointer;font-weight:600}
dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.3rem 1rem;margin:.75rem 0}
dt{font-weight:600;overflow-wrap:anywhere}
dd{margin:0;overflow-wrap:anywhere;max-width:80ch}
@media (max-width:40rem){main{padding:1rem .75rem 3rem}h1{font-size:1.35rem}dl{grid-template-columns:1fr;gap:.1rem}
dd{margin-bottom:.5rem}.row.words{min-width:8.5rem;max-width:9.5rem}figure{padding:.5rem}}
@media print{.scroll{overflow:visible}table{font-size:.6rem}}
"""

# Sorts a table by a column; cells without a value stay last in both directions.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, place) => row.cells[place]?.dataset.sort;
  heads.forEach((head, place) => head.firstElementChild?.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const order = (a, b) => {
      const x = key(a, place), y = key(b, place);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const found = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return up ? found : -found;
    };
    body.append(...[...body.rows].sort(order));
  }));
}
"""
