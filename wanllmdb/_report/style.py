"""How a report looks: both colour schemes, paper, and a palette for everyone."""

from __future__ import annotations

# Searched for around the hues of Okabe and Ito (2008): at least 3:1 against a card of
# their scheme, and 20 apart (CIE 1976) for people with and without each kind of colour
# blindness (simulated after Machado, 2009).
LIGHT = ("#0072b2", "#d55e00", "#264c39", "#661a5e", "#997a4c", "#8a9199")
DARK = ("#4fa8e0", "#e8662a", "#44e39a", "#cf7f95", "#efd23a", "#ffffff")
DASHES = ("none", "7 4", "2 4", "9 3 2 3")

COLORS = len(LIGHT) * len(DASHES)
"""How many runs differ by colour or by dashes; then they repeat."""

_PAGE = """
:root {
  color-scheme: light dark;
  --page: #f7f8f9; --card: #ffffff; --text: #1d2329; --soft: #59636e;
  --rule: #dfe3e7; --faint: #eef0f2; --good: #00714f; --bad: #b3261e; --busy: #0060a0;
  LIGHT
}
@media (prefers-color-scheme: dark) { :root {
  --page: #121518; --card: #1a1e22; --text: #e4e7ea; --soft: #9aa5b0;
  --rule: #2f363d; --faint: #23282e; --good: #4ccf9f; --bad: #ff8a80; --busy: #6cbcf5;
  DARK
} }
* { box-sizing: border-box; }
html { scroll-padding-top: 3rem; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
    "Liberation Sans", sans-serif;
  overflow-wrap: anywhere; -webkit-text-size-adjust: 100%;
}
header, main, footer { max-width: 1320px; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2rem; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.25; font-weight: 650; }
h2 { margin: 0 0 .75rem; font-size: 1.15rem; font-weight: 650; }
.made { margin: .35rem 0 0; color: var(--soft); font-size: .875rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0 0;
  padding: 0 0 .75rem; font-size: .9rem; border-bottom: 1px solid var(--rule); }
a { color: var(--busy); text-decoration: none; }
a:hover { text-decoration: underline; }
section { margin: 1.75rem 0; }
@media (min-width: 60rem) {
  main.one { display: grid; grid-template-columns: 1fr 1fr; column-gap: 1.5rem; }
  main.one > section { grid-column: 1 / -1; min-width: 0; margin: .875rem 0; }
  main.one > #config:has(+ #summary), main.one > #config + #summary {
    grid-column: auto; }
}
footer { padding-bottom: 2rem; color: var(--soft); font-size: .8rem; }
code, .console { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; font-size: .8125rem; }

.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; max-height: 40rem; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
th, td { padding: .4rem .8rem; text-align: left; vertical-align: top;
  border-top: 1px solid var(--faint); max-width: 26rem; }
td { white-space: pre-wrap; overflow-wrap: break-word; }
th { overflow-wrap: break-word; }
tbody tr:first-child > * { border-top: 0; }
thead th { position: sticky; top: 0; background: var(--card); color: var(--soft);
  font-weight: 600; white-space: nowrap; box-shadow: inset 0 -1px var(--rule); }
tbody th { font-weight: 500; }
tbody tr:hover > * { background: var(--faint); }
table.facts th { width: 9rem; color: var(--soft); white-space: nowrap; }
table.facts td { max-width: none; }
table.runs td, table.runs th { white-space: nowrap; }
table.runs bdi { display: inline-block; width: max-content; max-width: 18rem;
  white-space: normal;
  vertical-align: top; }
table.runs .text { display: inline-block; white-space: pre-wrap; min-width: 14rem;
  max-width: 22rem; }
table.values thead bdi { display: inline-block; width: max-content;
  max-width: 14rem; white-space: normal; vertical-align: top; }
table.values tbody th { width: 20%; min-width: 10rem; }
.absent { color: var(--soft); opacity: .6; }
.tag, .state, .badge { display: inline-block; border-radius: 99px; padding: 0 .55em;
  font-size: .8em; line-height: 1.6; border: 1px solid var(--rule); }
.tag { margin: 0 .3em .1em 0; background: var(--faint); }
.state { font-weight: 600; border-color: currentColor; }
.finished { color: var(--good); } .running { color: var(--busy); }
.failed, .crashed, .killed, .ERROR { color: var(--bad); } .WARN { color: var(--c1); }
.badge { color: var(--soft); font-weight: 400; margin-left: .4em; }
.badge.lost { color: var(--bad); }
svg.key { width: 26px; height: 8px; vertical-align: middle; margin-right: .45em;
  flex: none; }

details { margin: .6rem 0; }
summary { cursor: pointer; padding: .3rem 0; font-weight: 600; font-size: .95rem; }
.count { color: var(--soft); font-weight: 400; font-size: .85em; margin-left: .25em; }
.charts { display: grid; gap: .9rem; margin: .4rem 0 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); }
figure { margin: 0; padding: .7rem .8rem .6rem; background: var(--card); min-width: 0;
  border: 1px solid var(--rule); border-radius: 8px; }
figcaption { font-size: .875rem; font-weight: 600; margin-bottom: .3rem; }
figure > svg { display: block; width: 100%; height: auto; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: 0;
  padding: 0; font-size: .8rem; color: var(--soft);
  font-variant-numeric: tabular-nums; }
.legend li { display: flex; align-items: center; min-width: 0; }
.legend b { color: var(--text); font-weight: 500; margin-left: .5em;
  flex: none; }
.legend .who { overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  max-width: 14rem; }
figure .legend { margin-top: .35rem; display: grid;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.legend.all { position: sticky; top: 0; z-index: 1; padding: .5rem 0;
  font-size: .875rem; background: var(--page); border-bottom: 1px solid var(--rule);
  color: var(--text); }
svg text { fill: var(--soft); font: 11px system-ui, -apple-system, "Segoe UI", Roboto,
  "Noto Sans", "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums; }
text.y { text-anchor: end; } text.x, text.name, text.none { text-anchor: middle; }
text[text-anchor="end"] { text-anchor: end; }
.grid { stroke: var(--faint); fill: none; } .base { stroke: var(--rule); fill: none; }
.band, .line, .dot { vector-effect: non-scaling-stroke; stroke: var(--c);
  stroke-linejoin: round; stroke-linecap: round; }
.band { fill: var(--c); fill-opacity: .16; stroke-opacity: .28; stroke-width: 1px; }
.many .band { fill-opacity: .1; stroke-opacity: .12; }
.line { fill: none; stroke-width: 1.7px; stroke-dasharray: var(--d); }
.dot { fill: none; stroke-width: 5px; }
.console { background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  margin: .4rem 0; padding: .7rem .9rem; max-height: 34rem; overflow: auto;
  white-space: pre-wrap; line-height: 1.45; }
.console time { color: var(--soft); margin-right: .8em; user-select: none; }
.console .stderr { color: var(--bad); }
.reading { margin: .3rem 0 0; font-size: .8rem; color: var(--soft);
  font-variant-numeric: tabular-nums; }
.note { color: var(--soft); font-size: .85rem; margin: .4rem 0; }

@media print {
  :root { color-scheme: light;
    --page: #fff; --card: #fff; --text: #000; --soft: #444; --rule: #bbb;
    --faint: #e6e6e6; --good: #00614a; --bad: #9c1d16; --busy: #004f86;
    LIGHT
  }
  body { font-size: 10pt; print-color-adjust: exact; }
  header, main, footer { max-width: none; padding: 0; }
  nav { display: none; }
  .wide, .console { max-height: none; overflow: visible; }
  thead th, .legend.all { position: static; }
  table { font-size: 8pt; }
  th, td, table.runs th, table.runs td { padding: .2rem .4rem; white-space: normal;
    overflow-wrap: anywhere; }
  table.runs .text { min-width: 0; }
  .charts { grid-template-columns: 1fr 1fr; }
  figure, tr { break-inside: avoid; page-break-inside: avoid; }
  h2, summary { break-after: avoid; page-break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""


def css() -> str:
    """The style sheet."""
    runs = "\n".join(
        f".r{i} {{ --c: var(--c{i % len(LIGHT)}); --d: {DASHES[i // len(LIGHT)]}; }}"
        for i in range(COLORS)
    )
    page = _PAGE.replace("LIGHT", _variables(LIGHT)).replace("DARK", _variables(DARK))
    return f"{page}{runs}\n"


def _variables(colors: tuple[str, ...]) -> str:
    return " ".join(f"--c{i}: {color};" for i, color in enumerate(colors))
