"""Tests the report: its content, broken input, escaping without external resources, and the drawing of curves."""

import base64
import json
import math
import os
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from genlab.reporting import charts as report_charts
from genlab.reporting import figures as report_figures
from genlab.reporting import run as report
from genlab.reporting import samples as report_samples
from genlab.run.images import save_png
from support.runs import ROOT

TEMPLATES = [path for path in (ROOT / 'genlab/reporting/templates').rglob('*') if path.is_file()]
EVIL = '"><script>alert(1)</script>&'


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects tags, attributes and visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], '', []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ('meta', 'input', 'img', 'path'):
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ('script', 'style'):
            self.text += data + '\n'


def rows(number):
    """Returns metrics of a run that was resumed half-way, with a spike and a gap."""
    for step in range(1, number + 1):
        spike = 1e6 if step == number // 3 else None if number // 2 < step < number // 2 + 20 else 1 / step
        yield {
            'step': step,
            'critic/adversarial': 1.4 + step % 7 / 10,
            'critic/r1': spike,
            'generator/adversarial': -0.5,
            'images_per_second': 1000.0 + step % 3,
            'seconds': (step - 1) % (number // 2) + 1,
        }


def png(path, shade):
    save_png(path, np.full((8, 8, 1), shade, np.uint8))


def fill(workdir, number=200, pictures=30):
    """Writes a complete workdir in which every text needs escaping."""
    (workdir / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows(number))) + '\n{"step": 999, "cri')
    documents = {
        'config': {'name': 'dcgan', 'train': {'steps': 400}, 'model': {'width': 64, EVIL: EVIL, 'layers': [1, 2]}},
        'environment': {'host': EVIL, 'versions': {'jax': '0.10.2'}, 'git commit': 'abc1234'},
        'networks': {
            'generator': {
                'parameters': 3576704,
                'modules': [
                    {'path': 'generator/' + EVIL, 'type': 'Conv', 'output': [64, 4, 4, 512], 'parameters': 100}
                ],
            }
        },
        'evaluation': {
            'step': 200,
            'protocol': {'samples': 10000, EVIL: EVIL},
            'figures': {'frechet_distance': 12.3456, 'shares': [0.1, 0.7, 0.2], 'nested': {'a': None}},
        },
    }
    for name, document in documents.items():
        (workdir / f'{name}.json').write_text(json.dumps(document))
    for i in range(pictures):
        png(workdir / 'samples' / f'{i * 50:06d}.png', i)
    png(workdir / 'evaluation' / 'nearest_neighbours.png', 99)


def embedded(text):
    """Returns the bytes of the pictures of the page, in order."""
    return [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]*)"', text)]


@pytest.fixture(scope='module')
def full(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('run')
    fill(workdir)
    path = report.write(str(workdir))
    assert path == str(workdir / 'report.html')
    return (workdir / 'report.html').read_text()


def test_every_part_is_present(full):
    page = Page(full)
    for words in (
        'dcgan',
        'at 50%',
        '200',
        'of 400',
        '3,576,704',
        '12.35',
        'critic',
        'images per second',
        '1,001',
        'step 1,450',
        'nearest neighbours',
        'model/width',
        '64 × 4 × 4 × 512',
        'versions/jax',
        'abc1234',
        '0.1, 0.7, 0.2',
        'nested/a',
        '10000',
    ):
        assert words in page.text, words
    assert page.tags.count('figure') == 3 + 1 + 1  # charts, samples, evaluation
    assert page.tags.count('svg') == 2 + 1 + 2  # the generator's loss has no logarithm
    assert [name for tag, key, name in page.attributes if (tag, key) == ('section', 'id')] == [
        'samples',
        'curves',
        'evaluation',
        'networks',
        'config',
        'environment',
    ]


def test_no_resource_is_loaded_and_all_text_is_escaped(full):
    page = Page(full)
    assert page.text.count(EVIL) >= 6 and EVIL not in full and 'alert(1)</script>' not in full
    assert not re.search(r'(https?:)?//[\w.]+\.\w', re.sub(r'base64,[^"]*', '', full))
    for _tag, name, value in page.attributes:
        if name in ('src', 'href'):
            assert value.startswith(('#', 'data:image/png;base64,')), value
    assert "default-src 'none'" in full and not {'link', 'iframe', 'object'} & set(page.tags)
    assert page.tags.count('script') == 3 + 1
    assert not [name for _, name, _ in page.attributes if name.startswith('on')]


def test_text_is_shown_as_it_was_written(tmp_path):
    """Checks markup, quotes and what looks like a template: a value is text, never code."""
    values = ['<script>alert(1)</script>', 'a "red" circle & \'blue\' one', '{{ 7 * 7 }}{% raw %}', '&lt;b&gt;']
    config = {'name': values[1], 'sample': {'prompt': values[1]}, 'others': {str(n): v for n, v in enumerate(values)}}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    png(tmp_path / 'evaluation' / f'{values[1]}.png', 5)
    page = Page(report.render(str(tmp_path)))
    shown = [line for line in page.text.split('\n') if line]
    assert all(value in shown for value in values) and shown.count(values[1]) == 5
    assert ('img', 'alt', values[1]) in page.attributes and page.tags.count('script') == 1


def test_no_template_trusts_a_text():
    assert len(TEMPLATES) > 10
    for path in TEMPLATES:
        assert not re.search(r'\bsafe\b|\bautoescape\b|\bMarkup\b', path.read_text()), path.name


def test_metric_names_cannot_end_their_script(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text(json.dumps({'step': 1, 'a/</script><b>': 1.0}) + '\n')
    text = report.render(str(tmp_path))
    assert 'b' not in Page(text).tags
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])
    assert data['curves'] == [{'name': '</script><b>', 'x': [1], 'y': [1.0]}]


def test_curves_are_sorted_and_grouped(tmp_path):
    """Expects players before other metrics, sorted rows, and gaps for values that are no numbers."""
    lines = [{'step': 3, 'speed': 5, 'a/x': 1.5}, {'step': 1, 'speed': 7, 'a/x': None, 'a/y': True}]
    (tmp_path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    text = report.render(str(tmp_path))
    charts = [json.loads(data) for data in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    assert [chart['curves'] for chart in charts] == [
        [{'name': 'x', 'x': [1, 3], 'y': [None, 1.5]}, {'name': 'y', 'x': [1], 'y': [None]}],
        [{'name': 'speed', 'x': [1, 3], 'y': [7, 5]}],
    ]


def test_figures_whose_scales_differ_have_charts_of_their_own(tmp_path):
    """Expects each figure of samples and evaluations beside its reference, after the players and before the speed."""
    figures = {
        'evaluation/modes': 3,
        'evaluation/of_modes': 25,
        'evaluation/psnr': 9.5,
        'evaluation/psnr_of_input': 6.5,
    }
    lines = [{'step': step, 'speed': 5, 'b/x': 1.5} for step in (1, 2)]
    lines += [{'step': step, **figures, 'evaluation/high_quality': 0.5, 'samples/modes': 2} for step in (1, 2)]
    (tmp_path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    page = report.render(str(tmp_path))
    charts = [json.loads(data) for data in re.findall(r'<script type="application/json">(.*?)</script>', page)]
    assert dict(
        zip(re.findall(r'<h3>(.*?)</h3>', page), ([curve['name'] for curve in c['curves']] for c in charts))
    ) == {
        'b': ['x'],
        'evaluation: modes': ['modes', 'of_modes'],
        'evaluation: psnr': ['psnr', 'psnr_of_input'],
        'evaluation: high quality': ['high_quality'],
        'samples: modes': ['modes'],
        'speed': ['speed'],
    }


def test_curves_of_other_sizes_are_drawn_apart_unless_a_log_axis_shows_them():
    steps = np.arange(9)
    loss, penalty, sign = (steps, steps * 0 + 1.4), (steps, steps / 1e4 + 1e-4), (steps, np.sin(steps))
    assert report_charts.split({'loss': loss, 'r1': penalty}) == [{'loss': loss, 'r1': penalty}]
    several = {'r1': penalty, 'sign': sign, 'none': (steps, steps * np.nan), 'zero': (steps, 0 * steps), 'loss': loss}
    parts = report_charts.split(several)
    assert [list(part) for part in parts] == [['sign', 'loss'], ['r1', 'none', 'zero']]
    spike = (steps, np.where(steps == 4, 1e6, sign[1]))
    assert report_charts.split({'loss': loss, 'sign': spike}) == [{'loss': loss, 'sign': spike}]


def test_samples_are_thinned_with_the_first_and_the_last(full):
    shades = embedded(full)
    assert len(shades) == 1 + 24 + 1  # the large one, the strip, the evaluation
    assert shades[0] == shades[24] != shades[1]
    assert 'title="step 0"' in full and 'title="step 1,450"' in full
    assert report_samples._evenly(list(range(100)), 5) == [0, 25, 50, 74, 99]


def test_large_pictures_are_fewer(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr(report_samples, 'PICTURE_BYTES', 5 * len((tmp_path / 'samples' / '000000.png').read_bytes()))
    text = report.render(str(tmp_path))
    assert 2 <= len([name for _, name, _ in Page(text).attributes if name == 'aria-current']) <= 5
    assert 'title="step 0"' in text and 'title="step 1,450"' in text


def test_paths_that_are_not_utf8_are_escaped(tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps({'data': {'dir': '/photos/caf\udce9'}}))
    with open(report.write(tmp_path), encoding='utf-8') as page:
        assert r'/photos/caf\udce9' in page.read()


def test_an_empty_folder_and_every_broken_file(tmp_path):
    assert 'There is no config.json' in Page(report.render(str(tmp_path))).text
    fill(tmp_path, pictures=3)
    for name in ('config', 'environment', 'networks', 'evaluation'):
        path = tmp_path / f'{name}.json'
        path.write_text(path.read_text()[:-9])
    whole = (tmp_path / 'samples' / '000100.png').read_bytes()
    (tmp_path / 'samples' / '000100.png').write_bytes(whole[:-20])
    page = Page(report.render(str(tmp_path)))
    assert page.text.count('half-written') == 4 and 'step 50' in page.text and 'step 100' not in page.text
    assert tmp_path.name in page.text and 'at step 200' in page.text


@pytest.mark.parametrize(
    'value',
    [
        None,
        [],
        3,
        'x',
        {},
        {'a': None},
        {'a': [1, {'b': 2}]},
        {'parameters': 'x'},
        {'modules': [3, {}, {'output': {'x': 1}}]},
        {'figures': 3, 'protocol': [1]},
        {'a': {'modules': [3, {}, {'output': {'x': [1]}}], 'parameters': True}},
    ],
)
def test_malformed_documents_are_tolerated(tmp_path, value):
    for name in ('config', 'environment', 'networks', 'evaluation'):
        (tmp_path / f'{name}.json').write_text(json.dumps(value))
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1, "a": "text", "b/c": [1], "d": true, "e": null, "f/g": NaN}\n')
    Page(report.render(str(tmp_path)))


def test_state_and_time():
    """Checks the state at the last step, the time summed over the processes of a run, and the length of figures."""
    status = lambda config, step: report._status(config, [{'step': step}])
    assert status({'train': {'steps': 5}}, 5) == ('complete', True)
    assert status({'train': {'steps': 5}}, 4) == ('at 80%', False)
    assert status({}, 4) == ('at step 4', False)
    cards = report._cards({}, [], {'big': {'parameters': 35746307}, 'small': {'parameters': 3576704}}, {})
    assert [card.value for card in cards] == ['0', '35.75M', '3,576,704']
    assert report.seconds_of([{'seconds': s} for s in (10, 20, 30, 5, 15)] + [{}]) == 45
    assert [report._duration(s) for s in (42, 600, 3720)] == ['42 s', '10 min', '1 h 02']


def test_the_headline_prefers_figures_with_a_direction():
    figures = {'finite': 1.0, 'of_modes': 8, 'modes': 3, 'reason': 'none', 'high_quality': 0.5}
    cards = report._cards({}, [], {}, {'figures': figures})
    assert [(card.name, card.value) for card in cards[1:]] == [('modes', '3'), ('high quality', '0.5'), ('finite', '1')]


def test_two_thousand_rows_take_less_than_a_second(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows(2000))))
    began = time.process_time()
    text = report.render(str(tmp_path))
    assert time.process_time() - began < 1 and len(text) < 500_000


@pytest.mark.parametrize(
    'low, high, expected',
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-0.13, 0.31, [-0.1, 0, 0.1, 0.2, 0.3]),
        (990, 1010, [990, 995, 1000, 1005, 1010]),
        (1, 2001, [500, 1000, 1500, 2000]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert report_charts.ticks(low, high) == expected


@pytest.mark.parametrize(
    'low, high, expected', [(0.9, 110, [1, 2, 5, 10, 20, 50, 100]), (1e-9, 1e3, [1e-9, 1e-6, 1e-3, 1, 1e3]), (3, 4, [])]
)
def test_log_ticks(low, high, expected):
    np.testing.assert_allclose(report_charts.log_ticks(low, high), expected)


def test_numbers_are_formatted_for_readers():
    assert report_charts.labels([0, 500, 2500, 3e6, 0.05, 1e-5]) == ['0', '500', '2.5k', '3M', '0.05', '1e-5']
    assert report_charts.labels([12002, 12004]) == ['12.002k', '12.004k']  # with four digits both are 12k
    assert report_charts.labels([]) == []
    assert [report_charts.number(v) for v in (3576704, 0.693147, 1234.5, None, math.nan, 1.2e-5)] == [
        '3,576,704',
        '0.6931',
        '1,234',
        '–',
        '–',
        '1.2e-05',
    ]


def test_thinning_keeps_spikes_gaps_and_ends():
    steps = np.arange(100_000.0)
    values = np.random.RandomState(0).uniform(-1, 1, 100_000)
    values[[12345, 54321]] = 50, -50
    values[70_000:72_000] = np.nan
    thin_steps, thin_values = report_charts.thin(steps, values, 350)
    assert len(thin_steps) <= 702 and (np.diff(thin_steps) > 0).all() and thin_steps[[0, -1]].tolist() == [0, 99_999]
    assert np.nanmax(thin_values) == 50 and np.nanmin(thin_values) == -50 and np.isnan(thin_values).any()
    np.testing.assert_array_equal(values[thin_steps.astype(int)], thin_values)
    np.testing.assert_array_equal(report_charts.thin(steps[:700], values[:700], 350)[0], steps[:700])


def test_smoothing_is_centred_and_ignores_gaps():
    """Expects an unchanged line away from the ends, less noise, and an unchanged constant with gaps."""
    steps = np.arange(2000.0)
    at, line = report_charts.smooth(steps, 3 * steps)
    np.testing.assert_allclose(line[100:-100], 3 * at[100:-100], rtol=1e-3)
    noise = np.random.RandomState(0).randn(2000)
    assert np.std(report_charts.smooth(steps, noise)[1]) < 0.2
    constant = np.where(steps % 5 < 2, np.nan, 7.0)
    smoothed = report_charts.smooth(steps, constant)[1]
    np.testing.assert_allclose(smoothed[np.isfinite(smoothed)], 7)
    assert len(report_charts.smooth(np.arange(1e5), np.ones(100_000))[0]) <= 800


def test_a_curve_is_drawn_where_its_numbers_are():
    """Expects a curve from the lower left to the upper right, and tick labels at the height of their values."""
    chart = report_charts.chart('t', {'a': ([0, 50, 100], [0.0, math.nan, 10.0])})
    linear = chart.drawings[0]
    # a margin of 5 % of the range on both sides, a gap at the NaN
    assert dict(linear.paths)['curve s0 c0'] == 'M0.0 954.5M1000.0 45.5'
    assert ('59.09%', '4') in linear.marks and '5' not in dict(linear.marks).values()
    assert ('60.00%', '60') in chart.marks


def test_spikes_do_not_compress_the_rest():
    values = np.concatenate([np.linspace(1, 2, 999), [1e6]])
    low, high = report_charts._linear_range(values)
    assert low < 1 and 2 < high < 4
    chart = report_charts.chart('t', {'a': (np.arange(1000), values)})
    assert chart.cut and chart.legend[0].values == [1e6, 1, 1e6]
    assert not report_charts.chart('t', {'a': (np.arange(1000), values.clip(0, 2))}).cut


def test_log_scale_is_offered_and_chosen():
    steps = np.arange(10)
    both = report_charts.chart('t', {'a': (steps, steps + 100.0), 'b': (steps, steps / 100 + 0.01)})
    one = report_charts.chart('t', {'a': (steps, steps + 1.0)})
    none = report_charts.chart('t', {'a': (steps, -steps - 1.0)})
    assert [(chart.has_log, chart.wants_log) for chart in (both, one, none)] == [
        (True, True),
        (True, False),
        (False, False),
    ]


def test_flatten_keeps_lists_and_empty_dicts():
    nested = {'a': {'b': 1, 'c': {'d': [1, {'e': 2}]}}, 'f': {}}
    assert report_figures.flatten(nested) == [('a/b', 1), ('a/c/d', [1, {'e': 2}]), ('f', {})]


def test_the_duration_of_an_evaluation_is_not_in_the_protocol(tmp_path):
    evaluation = {
        'step': 1,
        'figures': {'a': 1.0},
        'protocol': {'codes': {'id': 'x', 'figures': ['a']}},
        'seconds': {'codes': 12.5},
        'rates': {'features': 4000.0},
    }
    (tmp_path / 'evaluation.json').write_text(json.dumps(evaluation))
    text = report.render(str(tmp_path))
    assert 'codes, s' in text and '12.5' in text and 'features, per second' in text and '<h3>Protocol</h3>' not in text


def test_each_part_of_the_evaluation_shows_its_protocol_and_alarms_come_first(tmp_path):
    evaluation = {
        'step': 4000,
        'alarms': ['class 3 is 61 % of ' + EVIL],
        'figures': {
            'frechet_distance': 12.3456,
            'precision': 'needs 1,000 samples',
            'class_share': {'0': 0.1, EVIL: 0.7, '2': 0.2},
            'linear_probe': 0.93,
            'finite': 1.0,
        },
        'protocol': {
            'quality': {
                'id': '3fa2c1d9',
                'figures': ['frechet_distance', 'precision', 'class_share'],
                'resize': 'none',
            },
            'codes': {'id': EVIL, 'figures': ['linear_probe'], EVIL: EVIL},
        },
    }
    (tmp_path / 'evaluation.json').write_text(json.dumps(evaluation))
    text = report.render(str(tmp_path))
    page = Page(text)
    boxes = [re.sub('<[^>]*>', ' ', box) for box in text.split('<div class="box">')[1:]]
    assert [box.split()[0] for box in boxes] == ['Sample', 'Codes', 'Figures']
    for box, inside, outside in zip(
        boxes, ('3fa2c1d9 resize 12.35 needs', '0.93', 'finite'), ('0.93', '12.35', '0.93')
    ):
        assert all(word in box for word in inside.split()) and outside not in box
    assert '<code class="badge">3fa2c1d9</code>' in text and '3 from 0.1 to 0.7' in page.text
    assert text.count('role="alert">class 3 is 61 % of') == 2 and EVIL not in text and 'of step 4,000' in page.text


def test_the_latent_space_and_animations_are_shown(tmp_path):
    from PIL import Image

    (tmp_path / 'explore').mkdir()
    png(tmp_path / 'explore' / 'traversal.png', 7)
    png(tmp_path / 'evaluation' / 'a.png', 8)
    frames = [Image.new('L', (6, 4), shade) for shade in (0, 255)]
    for name in ('explore/line.gif', 'evaluation/b.gif'):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    text = report.render(str(tmp_path))
    evaluation, latent = text.split('<section id="latent-space">')
    data = base64.b64encode((tmp_path / 'explore/line.gif').read_bytes()).decode()
    assert f'alt="line" width="6" height="4" src="data:image/gif;base64,{data}"' in latent and 'traversal' in latent
    assert '<figcaption>b</figcaption>' in evaluation and evaluation.count('data:image/') == 2
    (tmp_path / 'explore/line.gif').write_bytes((tmp_path / 'explore/line.gif').read_bytes()[:-1])
    assert 'alt="line"' not in report.render(str(tmp_path))


def test_names_that_are_not_utf_8_and_pictures_that_are_gone_do_not_stop_the_report(tmp_path):
    workdir = tmp_path / os.fsdecode(b'run-\xff')
    png(workdir / 'samples' / '1.png', 1)
    png(workdir / 'explore' / os.fsdecode(b'caf\xe9.png'), 2)
    (workdir / 'explore' / 'gone.png').symlink_to('nowhere')
    (workdir / 'explore' / 'folder.png').mkdir()
    text = open(report.write(workdir), encoding='utf-8').read()
    assert r'run-\udcff' in text and r'caf\udce9' in text and len(embedded(text)) == 3  # the sample also as a thumbnail
