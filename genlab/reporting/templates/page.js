'use strict';
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
const make = (tag, fields = {}) => Object.assign(document.createElement(tag), fields);
const short = value => value === null ? '\u2013' : Math.abs(value) >= 1e3 ? Math.round(value).toLocaleString('en')
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
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = '\u25b6 play'; };
  slider.addEventListener('input', () => { stop(); show(+slider.value); });
  buttons.forEach((button, index) => button.addEventListener('click', () => { stop(); show(index); }));
  play.addEventListener('click', () => {
    if (timer) return stop();
    if (+slider.value === buttons.length - 1) show(0);
    play.textContent = '\u23f8 pause';
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
  const words = field.value.toLowerCase().split(/\s+/);
  all('tbody tr', field.closest('section')).forEach(row => {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  });
}));
addEventListener('beforeprint', () => all('details').forEach(details => { details.open = true; }));
