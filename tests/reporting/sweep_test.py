"""Tests of the report of a sweep, against numbers computed by hand."""

import html
import json
import re
import urllib.parse

import numpy as np
import pytest

from genlab.reporting import charts, run, sweep
from genlab.reporting.curves import series_of


@pytest.fixture
def folder(tmp_path):
    """A sweep of two rates and two seeds, and one trial without results."""
    trials = {}
    for rate in (0.001, 0.01):
        for seed in range(2):
            name = f'rate-{rate}-seed-{seed}'
            run = tmp_path / name
            run.mkdir()
            rows = [
                {'step': step, 'model/loss': rate * 100 + seed + step, 'seconds': step / 2.0} for step in (10, 20, 30)
            ]
            (run / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
            figures = {'of_modes': 8, 'squared_error': rate + seed / 10_000}
            (run / 'evaluation.json').write_text(json.dumps({'step': 30, 'figures': figures}))
            trials[name] = {'overrides': {'model.rate': rate, 'seed': seed}, 'before': {'model.rate': 0.1, 'seed': 0}}
            trials[name] |= {'state': 'done', 'reason': ''}
    (tmp_path / 'rate-0.001-seed-0/restarts.json').write_text('{"restarts": 2, "lost_steps": 10}')
    trials['<bad>'] = {'overrides': {'model.rate': 9.0}, 'state': 'failed', 'reason': 'exit code 1'}
    content = {'config': 'configs/x.py', 'sweep': 'rate,seed', 'arguments': [], 'trials': trials}
    (tmp_path / 'sweep.json').write_text(json.dumps(content))
    return tmp_path


def test_report(folder):
    page = sweep.write(folder).read_text()
    assert '4 of 5 done' in page and '&lt;bad&gt;: failed, exit code 1' in page and '<bad>' not in page
    best = page[page.index('id="best"') : page.index('id="trials"')]
    assert 'squared error, lower is better' in best and 'rate 0.001: squared error 0.00105 ± 7.071e-05' in best
    assert '- config.model.rate = 0.1' in best and '+ config.model.rate = 0.001' in best and 'config.seed' not in best
    table = page[page.index('id="trials"') : page.index('id="parallel-coordinates"')]
    rows = re.findall('<tr><th scope="row">.*?</tr>', table)
    assert len(rows) == 5 and '>rate-0.001-seed-0<' in rows[0] and '&lt;bad&gt;' in rows[4]
    assert 'data-value="15.0">15<' in rows[0] and 'data-value="30">30<' in rows[0]
    assert 'data-value="2">2<' in rows[0] and 'data-value="0.75">75.0%<' in rows[0]  # restarts and goodput
    assert 'data-value="1.0">100.0%<' in rows[1] and '<dd>92.3%</dd>' in page  # 120 of 130 steps
    assert '60 s' in page and '>120<' in page  # seconds and steps of all
    assert 'class="sortable"' in table and 'http' not in page.replace('http-equiv', '')
    assert page.count('class="line c') == 5 and page.count('class="band s') == 4  # two groups, linear and log


def test_links_lead_to_files_and_sections(folder):
    """A trial without a report, such as one that was killed, has no link. Any name of a folder makes a right link."""
    content = json.loads((folder / 'sweep.json').read_text())
    names = list(content['trials'])[:2]
    content['trials']['a#1?"&<b>'] = content['trials'].pop(names[1])
    (folder / names[1]).rename(folder / 'a#1?"&<b>')
    (folder / 'sweep.json').write_text(json.dumps(content))
    written = [run.write(folder / name) for name in (names[0], 'a#1?"&<b>')]
    page = sweep.write(folder).read_text()
    links = [html.unescape(link) for link in re.findall('href="(.*?)"', page)]
    sections = re.findall('<section id="(.*?)">', page)
    assert [link[1:] for link in links if link.startswith('#')] == sections and len(sections) == 4
    files = [urllib.parse.unquote(link) for link in links if not link.startswith('#')]
    assert sorted(str(folder / file) for file in files) == sorted(written)
    assert all('#' not in link and '?' not in link for link in links if not link.startswith('#'))


def test_curves_are_means_with_bands_over_seeds(folder):
    content = json.loads((folder / 'sweep.json').read_text())['trials']
    entries = [sweep.entry(folder / name, name, trial) for name, trial in content.items()]
    steps, values = sweep.together(
        [series_of(item.run.rows) for item in sweep.groups(entries)['rate 0.01']], 'model/loss'
    )
    np.testing.assert_allclose(steps, [10, 20, 30])
    np.testing.assert_allclose(sweep.mean(values), [11.5, 21.5, 31.5])
    np.testing.assert_allclose(sweep.edges(values), [[11, 21, 31], [12, 22, 32]])
    assert sweep.ranking(entries) == 'squared_error'


def test_an_area_goes_along_the_top_and_back_along_the_bottom():
    x = np.array([0.0, 1, 2, 3])
    place = lambda x, y: ''.join(f'{"M" if n == 0 else "L"}{a:g} {b:g}' for n, (a, b) in enumerate(zip(x, y)))
    low, high = np.array([0, 1, np.nan, 3]), np.array([4, 5, 6, 7])
    assert charts._area(x, (low, high), place) == 'M0 4L1 5L3 7L3 3L1 1L0 0Z'


def test_axes_of_parallel_coordinates():
    top, bottom = sweep.MARGIN, sweep.HEIGHT - sweep.MARGIN
    middle = (top + bottom) / 2
    assert sweep.positions([0.1, 1.0, 10.0]) == pytest.approx([bottom, middle, top])  # logarithmic
    assert sweep.positions([0.0, 5.0, 10.0]) == pytest.approx([bottom, middle, top])
    assert sweep.positions(['a', None, 'c', 'b']) == pytest.approx([bottom, None, middle, top])
    assert sweep.marks(['a', 'b', 'a'], [90.0, 30.0, 90.0]) == [('b', 30.0), ('a', 90.0)]
    assert sweep.marks([1, 2, 3, 4, None], [50.0, 40.0, 20.0, 10.0, None]) == [('4', 10.0), ('1', 50.0)]
    assert sweep.headings(['a.rate', 'b.rate', 'c.width']) == ['a.rate', 'b.rate', 'width']


def test_a_sweep_without_results_has_a_report(tmp_path):
    assert 'no config.json' not in sweep.render(tmp_path)
    content = {'trials': {'a': {'overrides': {}, 'state': 'missing'}}}
    (tmp_path / 'sweep.json').write_text(json.dumps(content))
    assert '0 of 1 done' in sweep.render(tmp_path)
