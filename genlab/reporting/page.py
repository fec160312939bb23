"""The HTML page of a report: style, script and the frame around the sections. It loads nothing from elsewhere."""

import re
from collections.abc import Sequence
from html import escape

# The page must look the same in ten years and without a network, so the browser may fetch nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"

COLOURS = {  # of the curves, on light and on dark
    'light': ('#2563c9', '#d9540b', '#2a8a4a', '#9333b8', '#c4264f', '#0f7f8f', '#9a6b00', '#5c6670'),
    'dark': ('#7aa7ff', '#ff9c5b', '#63cf86', '#cf8cf0', '#ff7d9c', '#52cfe0', '#e2b340', '#a9b3bd'),
}

STYLE = """
:root { --page: #f6f6f4; --card: #fff; --text: #1c2026; --soft: #626b76; --line: #e2e4e7; --accent: #2563c9;
  --good: #1d7a3e; --good-back: #e0f3e6; --wait: #8a5a00; --wait-back: #fdf0d3; --hover: #f0f2f5;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --page: #131518; --card: #1b1e23; --text: #e7e9ec; --soft: #9aa4b0;
  --line: #30353c; --accent: #7aa7ff; --good: #7ddc9d; --good-back: #173a25; --wait: #f0c470; --wait-back: #40320f;
  --hover: #252930; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.2rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
header, main, footer { max-width: 1240px; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 2rem; line-height: 1.15; margin: 0; letter-spacing: -.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0; letter-spacing: -.01em; }
h3 { font-size: .95rem; margin: 0; font-weight: 600; }
.title { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem 1rem; }
.status { font-size: .85rem; font-weight: 600; padding: .15rem .7rem; border-radius: 1rem; white-space: nowrap;
  color: var(--wait); background: var(--wait-back); }
.status.done { color: var(--good); background: var(--good-back); }
.facts { color: var(--soft); margin: .5rem 0 0; display: flex; flex-wrap: wrap; gap: .1rem 1.4rem; font-size: .88rem; }
.facts span { overflow-wrap: anywhere; }
.notice { border-left: 3px solid var(--wait); background: var(--wait-back); color: var(--wait);
  border-radius: 0 6px 6px 0;
  padding: .45rem .9rem; margin: 1rem 0 0; font-size: .9rem; }
nav { position: sticky; top: 0; z-index: 5; background: var(--page); border-bottom: 1px solid var(--line);
  margin-top: 1.2rem; }
nav ul { list-style: none; display: flex; gap: 1.4rem; margin: 0 auto; padding: .6rem 1.25rem; max-width: 1240px;
  overflow-x: auto; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
section { margin: 2rem 0; }
.bar { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: .4rem 1rem;
  margin-bottom: .8rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: .8rem; margin: 1.4rem 0 0;
  padding: 0; }
.card, .chart, .box, details { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  min-width: 0; }
.card { padding: .7rem .9rem; display: flex; flex-direction: column; justify-content: space-between; }
.card dd { margin: 0; font-size: 1.35rem; font-weight: 600; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.card dd small { font-size: .9rem; font-weight: 400; color: var(--soft); letter-spacing: 0; }
.card dt { color: var(--soft); font-size: .8rem; line-height: 1.3; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.chart { margin: 0; padding: .9rem 1rem 1rem; }
.chart figcaption { display: flex; align-items: baseline; gap: .8rem; }
.chart figcaption h3 { flex: 1; } .note { color: var(--soft); font-size: .78rem; }
.toggle { font-size: .85rem; color: var(--soft); cursor: pointer; white-space: nowrap; user-select: none; }
.toggle + .toggle { margin-left: 1rem; }
.toggle input { vertical-align: -1px; margin: 0 .2rem 0 0; accent-color: var(--accent); }
.plot { position: relative; height: 230px; margin: .8rem 0 1.9rem 3rem; border-bottom: 1px solid var(--line); }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.plot span { position: absolute; color: var(--soft); font-size: .75rem; font-variant-numeric: tabular-nums;
  line-height: 1; white-space: nowrap; }
.plot span.y { right: calc(100% + .45rem); transform: translateY(-50%); }
.plot span.x { top: calc(100% + .5rem); transform: translateX(-50%); }
.plot path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
.plot .grid { stroke: var(--line); } .plot .curve, .plot .smooth { stroke-width: 1.8; }
.plot .dots { stroke-width: 5; } .plot .raw { stroke-width: 1; opacity: .3; }
.plot .band { stroke: none; opacity: .18; }
.dashed { stroke-dasharray: 5 4; } .plot .dots.dashed { stroke-dasharray: none; }
body:not(:has(#smoothing:checked)) .plot .smooth { display: none; }
body:not(:has(#smoothing:checked)) .plot .raw { opacity: 1; stroke-width: 1.4; }
body:not(:has(#minutes:checked)) .by-minute, body:has(#minutes:checked) .by-step { display: none; }
.chart:not(:has(.log-box:checked)) .log, .chart:has(.log-box:checked) .linear { display: none; }
.cursor { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--soft); pointer-events: none; }
.tip { position: absolute; top: .3rem; z-index: 2; pointer-events: none; background: var(--card); padding: .4rem .6rem;
  border: 1px solid var(--line); border-radius: 6px; font-size: .78rem; box-shadow: 0 3px 12px #0003;
  white-space: nowrap; }
.tip b { display: block; } .tip div { display: flex; gap: .8rem; justify-content: space-between; align-items: center; }
.tip label { color: var(--soft); }
.tip em { font-style: normal; font-variant-numeric: tabular-nums; font-weight: 600; }
.swatch { display: inline-block; width: .95rem; height: 0; border-top: 3px solid; vertical-align: middle;
  margin-right: .45rem;
  border-radius: 2px; } .swatch.dashed { border-top-style: dotted; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: left; padding: .22rem .6rem .22rem 0; font-weight: 400; vertical-align: top; }
thead th { color: var(--soft); font-size: .78rem; }
.sortable thead th { cursor: pointer; white-space: nowrap; }
.sortable [aria-sort=ascending]::after { content: ' \\25b4'; }
.sortable [aria-sort=descending]::after { content: ' \\25be'; }
tbody tr { border-top: 1px solid var(--line); } tbody tr:hover { background: var(--hover); }
.legend td, .legend thead th:not(:first-child), td.right, th.right { text-align: right;
  font-variant-numeric: tabular-nums;
  white-space: nowrap; } .legend td:last-child, td.right:last-child, th.right:last-child,
.legend thead th:last-child { padding-right: .1rem; }
.legend th, .rows th, .rows td { overflow-wrap: anywhere; }
.legend tbody th { padding-left: 1.4rem; text-indent: -1.4rem; }
.rows th { width: 45%; color: var(--soft); } .rows td { font-variant-numeric: tabular-nums; }
code, .code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .92em; }
.samples { display: grid; grid-template-columns: minmax(0, 32rem) minmax(0, 1fr); gap: 1.2rem; padding: 1rem; }
.samples .hero { margin: 0; }
.hero img, .pictures img { width: 100%; height: auto; display: block; border-radius: 6px; }
.pixels { image-rendering: pixelated; }
[hidden] { display: none !important; }
.slide { display: flex; align-items: center; gap: .7rem; margin-top: .7rem; }
.slide input { flex: 1; min-width: 0; accent-color: var(--accent); }
.slide output { min-width: 6.5rem; text-align: right; font-weight: 600; font-variant-numeric: tabular-nums; }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--line); border-radius: 6px;
  cursor: pointer; }
button:hover { background: var(--hover); } #play { width: 4.4rem; padding: .1rem 0; font-size: .85rem; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.6rem, 1fr)); gap: .5rem;
  align-content: start; }
.strip button { padding: 3px 3px 0; font-size: .75rem; color: var(--soft); font-variant-numeric: tabular-nums; }
.strip img { width: 100%; height: auto; aspect-ratio: 1; object-fit: cover; display: block; border-radius: 3px; }
.strip button[aria-current=true] { border-color: var(--accent); box-shadow: 0 0 0 1px var(--accent);
  color: var(--text); }
.badge { font: 600 .78rem ui-monospace, "SF Mono", Menlo, Consolas, monospace; color: var(--accent);
  padding: .08rem .45rem; border-radius: 5px; white-space: nowrap;
  background: color-mix(in srgb, var(--accent) 12%, transparent); }
.box h4 { margin: .9rem 0 .3rem; font-size: .82rem; font-weight: 600; color: var(--soft); }
.box h4 .badge { margin-left: .35rem; }
.conditions { color: var(--soft); font-size: .82rem; } .conditions td { color: var(--soft); }
.notice + .columns { margin-top: 1rem; }
.wide { overflow-x: auto; width: fit-content; max-width: 100%; } .wide table { width: auto; }
.wide th, .wide td { padding-right: 1.1rem; white-space: nowrap; }
.wide :is(th, td):last-child { padding-right: 0; }
.wide td.long { white-space: normal; min-width: 24rem; overflow-wrap: anywhere; }
.wide tbody th { font-weight: 600; } .wide td strong { color: var(--good); }
.key { list-style: none; padding: 0; margin: .8rem .2rem 0; color: var(--soft); font-size: .84rem; }
.key li { margin: .25rem 0; overflow-wrap: anywhere; } .key .badge { margin-right: .5rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem;
  margin-top: 1rem; }
.pictures figure { margin: 0; padding: .8rem; } .pictures figcaption { color: var(--soft); font-size: .85rem;
  margin-top: .5rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem;
  align-items: start; }
.box { padding: .8rem 1rem; } .box h3 { margin-bottom: .5rem; }
details { margin-bottom: .7rem; } details > div { padding: 0 1rem .8rem; overflow-x: auto; }
summary { cursor: pointer; padding: .6rem 1rem; font-weight: 600; } summary span { color: var(--soft);
  font-weight: 400; }
td.share { background: linear-gradient(to left, color-mix(in srgb, var(--accent) 20%, transparent) var(--share),
  transparent 0); }
.spark { display: inline-flex; align-items: flex-end; gap: 1px; height: 1.6rem; margin-right: .6rem;
  vertical-align: middle; }
.spark i { width: 4px; min-height: 1px; background: var(--accent); }
input[type=search] { font: inherit; font-size: .88rem; padding: .25rem .7rem; border: 1px solid var(--line);
  border-radius: 6px;
  background: var(--card); color: inherit; width: 15rem; max-width: 100%; }
footer { color: var(--soft); font-size: .82rem; padding-bottom: 2rem; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 760px) { .samples { grid-template-columns: minmax(0, 1fr); padding: .7rem; }
  h1 { font-size: 1.5rem; }
  header, main, footer { padding-left: .8rem; padding-right: .8rem; } .chart { padding: .8rem .7rem; }
  .strip { grid-template-columns: repeat(auto-fill, minmax(4.2rem, 1fr)); } }
@media print { nav, .toggle, .slide, input[type=search] { display: none; } body { background: #fff; font-size: 11px; }
  .chart, .card, .box, tr, figure { break-inside: avoid; } section { margin: 1rem 0; }
  .bar { break-after: avoid; } .samples { grid-template-columns: 20rem minmax(0, 1fr); }
  .charts { grid-template-columns: 1fr 1fr; } .plot { height: 160px; } }
"""

SCRIPT = """
'use strict';
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
const make = (tag, fields = {}) => Object.assign(document.createElement(tag), fields);
const short = value => value === null ? '\\u2013' : Math.abs(value) >= 1e3 ? Math.round(value).toLocaleString('en')
  : String(+value.toPrecision(4));

function nearest(list, value) {  // the index of the closest number in a rising list
  let low = 0, high = list.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (list[middle] < value) low = middle;
  else high = middle; }
  return Math.abs(list[low] - value) <= Math.abs(list[high] - value) ? low : high;
}

all('.chart').forEach(chart => {  // values under the pointer
  const plot = one('.plot', chart), cursor = one('.cursor', chart), tip = one('.tip', chart);
  const data = JSON.parse(one('script', chart).textContent);
  const colours = all('.legend .swatch', chart).map(swatch => swatch.className);
  plot.addEventListener('pointermove', event => {
    const box = plot.getBoundingClientRect();
    const wanted = data.left + (event.clientX - box.left) / box.width * (data.right - data.left);
    const steps = data.curves.map(curve => curve.x[nearest(curve.x, wanted)]);
    const closest = steps.reduce((a, b) => Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a);
    const share = (closest - data.left) / (data.right - data.left);
    tip.replaceChildren(make('b', {textContent: data.along + ' ' + closest.toLocaleString('en')}));
    data.curves.forEach((curve, index) => {
      const name = make('label'), value = make('em', {textContent: short(curve.y[nearest(curve.x, closest)])});
      name.append(make('i', {className: colours[index]}), curve.name);
      const row = make('div');
      row.append(name, value);
      tip.append(row);
    });
    cursor.style.left = share * 100 + '%';
    cursor.hidden = tip.hidden = false;
    const beside = share * box.width + (share < .5 ? 10 : -10 - tip.offsetWidth);
    tip.style.left = Math.max(-45, Math.min(beside, box.width - tip.offsetWidth)) + 'px';
  });
  plot.addEventListener('pointerleave', () => { cursor.hidden = tip.hidden = true; });
});

const slider = one('#slider');
if (slider) {  // samples over training
  const buttons = all('.strip button'), hero = one('.hero img'), output = one('.slide output'), play = one('#play');
  let timer = 0;
  const show = index => {
    const picture = one('img', buttons[index]);
    hero.src = picture.src; hero.alt = picture.alt; slider.value = index; output.textContent = buttons[index].title;
    slider.setAttribute('aria-valuetext', buttons[index].title);
    buttons.forEach((button, i) => button.setAttribute('aria-current', i === index));
  };
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = '\\u25b6 play'; };
  slider.addEventListener('input', () => { stop(); show(+slider.value); });
  buttons.forEach((button, index) => button.addEventListener('click', () => { stop(); show(index); }));
  play.addEventListener('click', () => {
    if (timer) return stop();
    if (+slider.value === buttons.length - 1) show(0);
    play.textContent = '\\u23f8 pause';
    timer = setInterval(() => +slider.value < buttons.length - 1 ? show(+slider.value + 1) : stop(), 400);
  });
}

all('table.sortable').forEach(table => all('thead th', table).forEach((head, column) => {  // rows by a column
  const sort = () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => a === '' ? 1 : b === '' ? -1
      : (isNaN(a) || isNaN(b) ? a.localeCompare(b, 'en', {numeric: true}) : a - b) * (up ? 1 : -1);
    all('thead th', table).forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    one('tbody', table).append(...all('tbody tr', table).sort((a, b) => compare(value(a), value(b))));
  };
  head.tabIndex = 0;
  head.addEventListener('click', sort);
  head.addEventListener('keydown', event => { if (event.key === 'Enter') sort(); });
}));

all('input[type=search]').forEach(field => field.addEventListener('input', () => {
  const words = field.value.toLowerCase().split(/\\s+/);
  all('tbody tr', field.closest('section')).forEach(row => {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  });
}));
addEventListener('beforeprint', () => all('details').forEach(details => { details.open = true; }));
"""


def _colours() -> str:
    """Returns the style rules of curve colors. Pointing at a legend row dims the other curves."""
    light, dark = (
        [
            f'.c{i} {{ stroke: {c}; border-color: {c}; }} .plot .band.c{i} {{ fill: {c}; }}'
            for i, c in enumerate(COLOURS[mode])
        ]
        for mode in ('light', 'dark')
    )
    dim = [f'.chart:has(tr.s{i}:hover) .plot path[class*=" c"]:not(.s{i}) {{ opacity: .1; }}' for i in range(24)]
    return '\n'.join(light + ['@media (prefers-color-scheme: dark) {'] + dark + ['}'] + dim)


def anchor(name: str) -> str:
    """Returns the anchor of a section: its name in lower case, words joined by hyphens."""
    return re.sub(r'[^\w-]', '', name.lower().replace(' ', '-'))


def page(
    title: str,
    header: str,
    sections: Sequence[tuple[str, str]],
    footer: str = 'Made from the files of the run alone.',
) -> str:
    """Returns the whole document.

    Args:
      title: text.
      header: HTML.
      sections: [(name, HTML)]; the bar at the top links to each.
      footer: text.
    """
    places = [(name, html, anchor(name)) for name, html in sections]
    links = ''.join(f'<li><a href="#{place}">{escape(name)}</a></li>' for name, _, place in places)
    body = ''.join(f'<section id="{place}">{html}</section>' for _, html, place in places)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{STYLE}{_colours()}</style></head><body><header>{header}</header>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main>{body}</main>'
        f'<footer>{escape(footer)}</footer><script>{SCRIPT}</script></body></html>\n'
    )
