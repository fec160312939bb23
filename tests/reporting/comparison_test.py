"""Tests the results page: figures of the runs, ranking of equal protocols only, and no private paths."""

import io
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from genlab import results
from genlab.reporting import comparison, comparison_page
from genlab.reporting.comparison_pictures import encode, small
from genlab.reporting.comparison_tables import Part, digits, overview, part_tables, read
from genlab.reporting.figures import parts
from genlab.run import command
from genlab.run.images import save_png
from genlab.run.protocol import VERSION

EVIL = '"><script>alert(1)</script>|`&'
QUALITY = ('frechet_distance', 'precision', 'class_share')


def quality(id, distance, precision=0.5, **conditions):
    """Returns an evaluation of one part."""
    figures = {'frechet_distance': distance, 'precision': precision, 'class_share': {'0': 0.25, '1': 0.12345, '2': 0.5}}
    return {
        'step': 4000,
        'version': VERSION,
        'figures': figures,
        'protocol': {'quality': {'id': id, 'figures': [*QUALITY], 'samples': 1000, 'range': '[-1, 1]', **conditions}},
    }


OLD = {
    'step': 2000,
    'figures': {'finite': 1.0, 'frechet_distance': 1.0},
    'protocol': {'data': 'digits/test', 'samples': 1000},
}


def make(folder, evaluation, pictures=(), **environment):
    """Writes a run of two networks that was resumed once."""
    folder.mkdir(parents=True)
    documents = {
        'config': {
            'experiment': 'gan',
            'data': {'source': 'tfds', 'name': 'mnist', 'resolution': 32, 'channels': 1, 'dir': '/private'},
        },
        'environment': {
            'device_kind': 'cpu',
            'cores': 2,
            'devices': ['cpu:0'],
            'command': 'python -m genlab.main --config=configs/dcgan.py:mnist',
            **environment,
        },
        'networks': {'generator': {'parameters': 369600}, 'discriminator': {'parameters': 166784}},
        'evaluation': evaluation,
    }
    for name, document in documents.items():
        if document is not None:
            (folder / f'{name}.json').write_text(json.dumps(document))
    (folder / 'metrics.jsonl').write_text(
        '\n'.join(
            json.dumps({'step': step, 'seconds': seconds})
            for step, seconds in ((1000, 30), (2000, 60), (3000, 20), (4000, 66))
        )
    )
    for path in pictures:
        save_png(folder / path, np.arange(64, dtype=np.uint8).reshape(8, 8))
    return folder


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def best(table):
    """Returns {(run, column)} of the bold cells."""
    return {
        (row[0].text, column.text)
        for row in table.rows
        for column, cell in zip(table.columns, row)
        if cell.style == 'best'
    }


def tables(tmp_path, **evaluations):
    return part_tables([read(make(tmp_path / name, evaluation)) for name, evaluation in evaluations.items()])


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Writes two comparable runs with pictures, below the working directory."""
    monkeypatch.chdir(tmp_path)
    make(
        tmp_path / 'runs/a',
        quality('1f', 20.0),
        ('samples/500.png', 'samples/4000.png', 'evaluation/nearest_neighbours.png'),
    )
    make(tmp_path / 'runs/b', {**quality('1f', 10.0), 'alarms': ['class 3 is 61 % of the samples']})
    return tmp_path


def test_the_overview_shows_the_files_of_the_runs(tmp_path):
    gpu = {'device_kind': 'NVIDIA H200', 'devices': ['cuda:0', 'cuda:1'], 'command': None}
    runs = [read(make(tmp_path / 'a', OLD)), read(make(tmp_path / 'b', OLD, **gpu))]
    assert texts(overview(runs)) == [
        [
            'a',
            'dcgan, mnist',
            'mnist, 32×32×1',
            '536,384',
            '4,000',
            '2.1',
            'CPU, 2 cores',
            'python -m genlab.main --config=configs/dcgan.py:mnist',
        ],
        ['b', 'gan', 'mnist, 32×32×1', '536,384', '4,000', '2.1', '2 × NVIDIA H200', ''],
    ]


def test_the_best_of_each_protocol_is_bold(tmp_path):
    [table] = tables(tmp_path, a=quality('1f', 20.0, 0.7), other=quality('2e', 1.0, 0.9), b=quality('1f', 10.0, 0.6))
    assert best(table) == {('b', 'frechet distance ↓'), ('a', 'precision ↑')}
    assert [row[0] for row in texts(table)] == ['a', 'b', 'other'], 'those that compare stand together'
    assert [column.text for column in table.columns] == [
        'run',
        'step',
        'frechet distance ↓',
        'precision ↑',
        'class share',
        'protocol',
    ]
    assert texts(table)[0] == ['a', '4,000', '20', '0.7', '0.1235 – 0.5', '1f']
    assert table.legend == [('1f', 'samples: 1000; range: [-1, 1]'), ('2e', 'samples: 1000; range: [-1, 1]')]


@pytest.mark.parametrize(
    'evaluations',
    [
        dict(a=quality('1f', 20.0), b=quality('2e', 10.0)),
        dict(a=quality('', 20.0), b=quality('', 10.0)),
        dict(a=OLD, b={**OLD, 'figures': {'frechet_distance': 5.0}}),
        dict(a=quality('1f', 10.0), b=quality('1f', 10.00001)),
        dict(a=quality('1f', 10.0), b=quality('1f', 'needs more samples')),
        dict(a=quality('1f', 10.0)),
    ],
)
def test_no_run_is_best_without_a_comparable_run(tmp_path, evaluations):
    assert all(best(table) == set() for table in tables(tmp_path, **evaluations))


def test_a_figure_without_a_known_direction_has_no_best(tmp_path):
    protocol = {'q': {'id': '1', 'figures': ['smallest_share']}}
    evaluation = lambda value: {'figures': {'smallest_share': value}, 'protocol': protocol}
    [table] = tables(tmp_path, a=evaluation(1), b=evaluation(2))
    assert best(table) == set() and table.columns[2].text == 'smallest share'


def test_a_figure_that_is_no_number_is_a_dash_with_a_footnote(tmp_path):
    few = 'needs 1,000 samples'
    [table] = tables(
        tmp_path,
        a=quality('1f', 3.0, few),
        b=quality('1f', float('nan'), few),
        c=quality('1f', 4.0, {'x': 0.5, 'y': 'too few'}),
    )
    assert [row[2:4] for row in texts(table)] == [['3', '–¹'], ['–²', '–¹'], ['4', '0.5³']]
    assert table.notes == [few, 'not a finite number', 'too few']
    assert best(table) == {('a', 'frechet distance ↓')}


def test_parts_of_new_and_old_and_odd_evaluations(tmp_path):
    evaluation = {**quality('1f', 3.0), 'alarms': ['x']}
    evaluation['figures']['finite'] = 1.0
    new, loose = parts(evaluation)
    assert (new.name, new.id, [*new.figures], [*new.conditions]) == ('quality', '1f', [*QUALITY], ['samples', 'range'])
    assert loose == Part('', '', {}, {'finite': 1.0})
    assert parts(OLD) == [Part('', '', OLD['protocol'], OLD['figures'])]
    assert [table.name for table in tables(tmp_path, a=evaluation, b=OLD)] == ['Sample quality', 'Other figures']
    for odd in ({}, {'figures': 3}, {'protocol': [1]}, {'protocol': {'a': {'figures': 3}}}, {'figures': {'a': None}}):
        part_tables([read(make(tmp_path / f'odd{len(os.listdir(tmp_path))}', odd))])
    [table] = tables(tmp_path, old=OLD)
    assert texts(table) == [['old', '2,000', '1', '1', '–']]
    assert table.legend == [('', 'no id (old): data: digits/test; samples: 1000')]


def test_four_digits():
    assert [digits(value) for value in (0, 0.0, 0.123456, 12.3456, 123456.7, 1234567, 1.23456e-5, -2.34567, 3e12)] == [
        '0',
        '0',
        '0.1235',
        '12.35',
        '123,500',
        '1,234,567',
        '1.235e-05',
        '-2.346',
        '3e+12',
    ]


def test_markdown_as_a_whole(pair, capsys):
    results.main(
        ['runs/a', str(pair / 'runs/b'), f'--markdown={pair}/docs/RESULTS.md', '--pictures', 'docs/my pictures']
    )
    assert capsys.readouterr().out == f'{pair}/docs/RESULTS.md: 2 runs\n'
    text = (pair / 'docs/RESULTS.md').read_text()
    assert text.startswith(
        '# Results\n\nMade by `python -m genlab.results runs/a b --markdown=RESULTS.md --pictures '
        "'docs/my pictures'`. Nothing on this page is written by hand.\n"
    )
    assert '[Runs](#runs) · [Sample quality](#sample-quality) · [Pictures](#pictures)' in text
    assert '> **Alarm**, b: class 3 is 61 % of the samples' in text
    assert '| run | step | frechet distance ↓ | precision ↑ | class share | protocol |\n| --- | --: | --: |' in text
    assert '| b | 4,000 | **10** | 0.5 | 0.1235 – 0.5 | `1f` |' in text
    assert '- `1f`: samples: 1000; range: \\[-1, 1\\]\n' in text
    links = re.findall(r'\]\(([^#)]*)\)', text)
    assert links == ['my%20pictures/a-samples.png', 'my%20pictures/a-nearest_neighbours.png']
    assert sorted(os.listdir(pair / 'docs/my pictures')) == ['a-nearest_neighbours.png', 'a-samples.png']
    assert '*samples, step 4,000*' in text and str(pair) not in text and '/private' not in text
    rows = [line for line in text.splitlines() if line.startswith('|')]
    assert (
        len(rows) == 8
        and {line.count('|') for line in rows[:4]} == {9}
        and {line.count('|') for line in rows[4:]} == {7}
    )


def test_small_pictures_below_the_page_are_shown_where_they_lie(pair):
    results.main(['runs/a', '--keep', 'docs/runs'])
    results.main(['docs/runs/a', '--markdown', 'docs/RESULTS.md'])
    links = re.findall(r'\]\(([^#)]*)\)', (pair / 'docs/RESULTS.md').read_text())
    assert links == ['runs/a/samples/4000.png', 'runs/a/evaluation/nearest_neighbours.png']
    results.main(['runs/a', '--markdown', 'docs/RESULTS.md'])
    assert '## Pictures' not in (pair / 'docs/RESULTS.md').read_text()


def test_html_as_a_whole(pair):
    results.main(['runs/a', 'runs/b', '--html', 'results.html'])
    text = (pair / 'results.html').read_text()
    assert (
        '<strong>10</strong>' in text and '<strong>20</strong>' not in text and '<code class="badge">1f</code>' in text
    )
    assert text.count('src="data:image/png;base64,') == text.count('<img') == 2 and os.listdir(pair) != ['docs']
    assert 'role="alert">b: class 3 is 61 % of the samples</p>' in text and 'id="sample-quality"' in text
    assert str(pair) not in text and '/private' not in text


def test_text_of_runs_is_escaped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    protocol = {EVIL: {'id': EVIL, 'figures': [EVIL, 'b_*c*'], EVIL: EVIL}}
    evaluation = {'figures': {EVIL: 1.0, 'b_*c*': EVIL}, 'protocol': protocol, 'alarms': [EVIL]}
    make(tmp_path / 'a"><i>', evaluation, ('evaluation/<i>&.png', 'samples/1.png'), command=EVIL, device_kind=EVIL)
    results.main(['a"><i>', '--markdown=r.md', '--html=r.html', '--pictures=p'])
    html, text = (tmp_path / 'r.html').read_text(), (tmp_path / 'r.md').read_text()
    assert '<script>alert' not in html and '<i>' not in html and html.count('<script>') == 1
    outside = re.sub(r'(`+)(?!`).*?[^`]\1(?!`)', '', text)  # code is shown verbatim
    assert '<script' not in outside and '<i>' not in outside and r'b \*c\*' in outside
    rows = [re.sub(r'\\\|', '', line) for line in text.splitlines() if line.startswith('|')]
    assert [row.count('|') for row in rows] == 3 * [9] + 3 * [6]
    for link in re.findall(r'\]\(([^#)]*)\)', text):
        assert (tmp_path / link).exists() and re.fullmatch(r'p/[\w.-]+', link)


def test_runs_and_pictures_of_the_same_name_get_different_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / 'x/run', OLD, ('evaluation/b-c.png',))
    make(tmp_path / 'y/run', OLD)
    make(tmp_path / 'run-b', OLD, ('evaluation/c.png',))
    results.main(['x/run', 'y/run', 'run-b', '--markdown=r.md', '--pictures=p'])
    assert sorted(os.listdir(tmp_path / 'p')) == ['run-b-c-2.png', 'run-b-c.png']
    assert re.findall(r'\n### (.*)\n', (tmp_path / 'r.md').read_text()) == ['run', 'run-2', 'run-b']


def test_a_path_that_is_no_run_is_named_and_left_out(pair, capsys):
    make(pair / 'runs/fresh', None)
    (pair / 'empty').mkdir()
    results.main(['runs/a', 'runs/../runs/a', 'runs/fresh', 'empty', 'nowhere', 'runs/b'])
    out, error = capsys.readouterr()
    assert out.startswith('# Results') and out.count('| a |') == 2 and out.count('| b |') == 2 and 'fresh |' not in out
    assert [line.split(': ')[-1].split(' (')[0] for line in error.splitlines()] == [
        'left out, it is named already',
        'left out, it is not evaluated yet',
        'left out, it holds no run',
        'left out, there is no such folder',
    ]


def test_a_folder_of_runs_is_no_run_but_has_some(pair, capsys):
    with pytest.raises(SystemExit):
        results.main(['runs'])
    assert 'it holds no run (no config.json); there are runs in it: name runs/*\n' in capsys.readouterr().err


@pytest.mark.parametrize('words, message', [([], 'which runs?'), (['nowhere'], 'there is no run with an evaluation')])
def test_no_run_is_one_line_and_exit_2(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        results.main(words)
    last = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and last.startswith(f'genlab: {message}')


def test_paths_that_are_not_utf8_are_escaped(pair, capsys):
    make(pair / 'c', quality('1f', 1.0), command='python -m genlab.main --config=configs/caf\udce9.py')
    results.main(['c'])
    assert r'caf\udce9.py' in capsys.readouterr().out
    results.main(['c', '--markdown=r.md', '--html=r.html'])
    assert r'caf\udce9.py' in (pair / 'r.md').read_text(encoding='utf-8')


def test_damaged_files_and_pictures_are_left_out(pair, capsys):
    whole = (pair / 'runs/a/samples/4000.png').read_bytes()
    (pair / 'runs/a/samples/4000.png').write_bytes(whole[:-20])
    (pair / 'runs/b/evaluation.json').write_text('{"figures": {"fre')
    for name in ('environment', 'networks'):
        (pair / f'runs/a/{name}.json').unlink()
    results.main(['runs/a', 'runs/b', '--markdown=r.md', '--pictures=p'])
    text = (pair / 'r.md').read_text()
    assert os.listdir(pair / 'p') == ['a-nearest_neighbours.png']
    assert 'runs/b: left out, evaluation.json cannot be read' in capsys.readouterr().err
    assert '| a | gan | mnist, 32×32×1 |  | 4,000 | 2.1 |  |  |' in text and '| b |' not in text


def test_pictures_are_small_and_lossless_where_possible():
    def png(array):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, 'PNG', compress_level=0)
        return buffer.getvalue()

    random = np.random.RandomState(0)
    few = random.randint(0, 256, (9, 3), np.uint8)[random.randint(0, 9, (60, 260))]  # nine colours
    for array, times in ((few, 1), (few[..., 0], 1), (random.randint(0, 256, (40, 50, 3), np.uint8), 6)):
        found = Image.open(io.BytesIO(small(png(array))))
        legible = np.repeat(np.repeat(array, times, 0), times, 1)
        np.testing.assert_array_equal(np.asarray(found.convert('RGB' if array.ndim == 3 else 'L')), legible)
    assert Image.open(io.BytesIO(encode(Image.fromarray(few)))).mode == 'P'
    noise = png(random.randint(0, 256, (300, 400, 3), np.uint8))
    shrunk = small(noise, limit=50_000)
    width, height = Image.open(io.BytesIO(shrunk)).size
    assert 25_000 < len(shrunk) <= 50_000 and abs(width / height - 4 / 3) < 0.02
    assert small(png(np.zeros((4, 4, 4), np.uint8))) == small(png(np.full((4, 4, 3), 255, np.uint8))), 'clear is white'


def test_the_command_contains_no_local_path():
    typed = lambda *words: command.given('genlab.main', ['/usr/bin/python3', '-m', 'genlab.main', *words])
    root = pathlib.Path(command.__file__).parents[2]
    assert typed(
        '--config=configs/dcgan.py:mnist', '--workdir=/home/me/r', '--config.data.dir', '/home/me/d', '--debug'
    ) == ('python -m genlab.main --config=configs/dcgan.py:mnist --debug')
    assert typed(
        '--config', f'{root}/configs/gan.py', '--config.x=/home/me/y', '-workdir', 'r', '--coordinator=host:1'
    ) == ('python -m genlab.main --config configs/gan.py --config.x=y')
    assert typed('--config.train.order=("a", "b")') == 'python -m genlab.main \'--config.train.order=("a", "b")\''
    assert command.given('genlab.main', ['python', '-O', '/x/genlab/main.py', '--a']) == 'python -m genlab.main --a'
    assert command.given('genlab.main', ['python', 'notebook.py', '--data=/private']) is None


def test_the_command_names_a_pattern_where_the_runs_are_all_that_match_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ('runs/a', 'runs/b c', 'runs/gan', 'runs/gan-grid', 'other/a', 'other/b')
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    line = lambda *runs: comparison.typed([*runs, '--html=x.html'], runs).removeprefix('python -m genlab.results ')
    assert line(*names[:4]) == 'runs/* --html=x.html'
    assert line('runs/gan/', 'runs/gan-grid/') == 'runs/gan* --html=x.html'
    assert line(*names[:3]) == "runs/a 'runs/b c' runs/gan --html=x.html"
    assert line(*names) == 'runs/* other/* --html=x.html'
    assert line('runs/a') == 'runs/a --html=x.html'
    assert line(*(str(tmp_path / name) for name in names[:4])) == 'runs/* --html=x.html'
    monkeypatch.chdir(tmp_path / 'runs')
    assert line('a', 'b c', 'gan', 'gan-grid') == '* --html=x.html'


def test_help_without_jax():
    """Runs a separate process: making the page must not import the packages of training."""
    code = 'import sys; from genlab import results; print(int("jax" in sys.modules)); results.main(["--help"])'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert out.startswith('0\nusage: python -m genlab.results') and '--pictures FOLDER' in out and 'Exit codes' in out


def test_kept_runs_give_the_same_page(pair, capsys):
    """Checks that small copies contain no private path and give the tables of the runs."""
    results.main(['runs/a', 'runs/b', '--keep', 'kept'])
    assert (pair / 'kept/a/samples/4000.png').exists() and not (pair / 'kept/a/samples/500.png').exists()
    for path in (pair / 'kept').rglob('*.json*'):
        assert '/private' not in path.read_text()
    for folder in ('runs', 'kept'):
        results.main([f'{folder}/a', f'{folder}/b', '--markdown', f'{folder}.md', '--pictures', f'{folder}-pictures'])
    pages = [(pair / f'{folder}.md').read_text() for folder in ('runs', 'kept')]
    one, two = ([line.replace('kept', 'runs') for line in page.splitlines() if 'Made by' not in line] for page in pages)
    assert one == two and any('536,384' in line for line in one)


def test_a_row_of_an_older_protocol_is_marked(tmp_path):
    [table] = tables(tmp_path, a={**quality('1f', 20.0), 'version': 1}, b=quality('1f', 10.0))
    assert [row[-1] for row in texts(table)] == ['1f ¹', '1f']
    assert table.notes == ['the protocol has changed since: evaluate the run again before comparing it']


def test_names_that_are_not_utf_8_do_not_stop_the_page(tmp_path):
    run, shown = (tmp_path / os.fsdecode(name) for name in (b'run-\xff', b'pictures-\xff'))
    make(run, quality('a', 1.0), ['samples/4000.png'])
    results.main([str(run), '--markdown', str(tmp_path / 'page.md'), '--pictures', str(shown)])
    text = (tmp_path / 'page.md').read_text(encoding='utf-8')
    assert r'run-\udcff' in text and 'pictures-%FF/' in text


def charts(text, group):
    """Returns title -> the data of each chart of a group, 'step' or 'minute'."""
    part = text[text.index(f'<div class="charts by-{group}">') :].partition('</figure>\n</div>')[0]
    data = map(json.loads, re.findall(r'<script type="application/json">(.*?)</script>', part))
    return dict(zip(re.findall('<h3>(.*?)</h3>', part), data))


@pytest.fixture
def curved(tmp_path, monkeypatch):
    """Writes two runs with curves, the second of which has a hostile name and is not evaluated."""
    monkeypatch.chdir(tmp_path)
    lines = [
        {'step': 10, 'a/loss': 3.0, 'speed': 5, 'seconds': 60},
        {'step': 20, 'a/loss': None, 'speed': 6, 'seconds': 120},
        {'step': 20, 'evaluation/psnr': 9.0},
        {'step': 30, 'a/loss': 1.0, 'speed': 7, 'seconds': 30},  # of another process
    ]
    for name, evaluation, scale in (('a', quality('1f', 20.0), 1), ('<script>alert(1)<script>', None, 2)):
        folder = make(tmp_path / name, evaluation)
        config = json.loads((folder / 'config.json').read_text())
        config |= {'seed': scale, 'model': {'width': 64, 'tokenizer': f'/private/{scale}'}, 'average': {}}
        config['average'] = {} if scale == 1 else {'<b>': 0.9}
        config['data']['dir'] = f'/private/data/{scale}'
        (folder / 'config.json').write_text(json.dumps(config))
        rows = [{**row, 'a/loss': row['a/loss'] and row['a/loss'] * scale} if 'a/loss' in row else row for row in lines]
        (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    return tmp_path


def test_the_html_overlays_curves_over_steps_and_minutes(curved, capsys):
    results.main(['a', '<script>alert(1)<script>', '--html=r.html', '--markdown=r.md'])
    assert capsys.readouterr().out == 'r.md: 1 run\nr.html: 2 runs\n'
    text = (curved / 'r.html').read_text()
    steps, minutes = charts(text, 'step'), charts(text, 'minute')
    assert [*steps] == [*minutes] == ['a/loss', 'speed']  # one number is no curve
    names = ['a', '<script>alert(1)<script>']
    assert steps['a/loss']['curves'] == [
        {'name': names[0], 'x': [10, 20, 30], 'y': [3.0, None, 1.0]},
        {'name': names[1], 'x': [10, 20, 30], 'y': [6.0, None, 2.0]},
    ]
    assert [curve['x'] for curve in minutes['speed']['curves']] == [[1.0, 2.0, 2.5]] * 2
    assert (steps['speed']['along'], minutes['speed']['along']) == ('step', 'minute') and 'id="minutes"' in text
    assert '<script>alert' not in text and text.count('<script>') == 1 and '<b>' not in text.replace('<b></b>', '')
    assert '&lt;script&gt;alert(1)&lt;script&gt; has no evaluation, and so no figures' in text
    assert '&lt;script' not in (curved / 'r.md').read_text()


def test_the_html_lists_the_settings_that_differ_and_sorts_by_numbers(curved):
    results.main(['a', '<script>alert(1)<script>', '--html=r.html'])
    text = (curved / 'r.html').read_text()
    settings = text[text.index('<section id="settings">') :].partition('</section>')[0]
    rows = re.findall('<tr><th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>', settings)
    assert rows == [('average.&lt;b&gt;', '–', '0.9'), ('model.tokenizer', '1', '2'), ('seed', '1', '2')]
    assert '/private' not in text and text.count('<table class="sortable">') == 3
    cells = re.findall('<td class="right" data-value="(.*?)">(.*?)</td>', text)
    assert ('536384', '536,384') in cells and ('20.0', '20') in cells and ('', '0.1235 – 0.5') in cells


def test_runs_without_curves_or_differences_have_no_such_sections(pair):
    results.main(['runs/a', 'runs/b', '--html=r.html'])
    text = (pair / 'r.html').read_text()
    assert 'id="curves"' not in text and 'id="settings"' not in text


def test_more_metrics_than_a_page_draws_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_page, 'CHARTS', 2)
    make(tmp_path / 'a', OLD)
    rows = [{'step': step, 'x/1': 1.0, 'x/2': 1.0, 'evaluation/y': 2.0} for step in (1, 2)]  # without times
    (tmp_path / 'a/metrics.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    section = comparison_page._curves([read(tmp_path / 'a')])
    assert section.note == '1 more metrics are left out' and section.boxes == [('smoothing', True)]
    assert [(kind, [chart.title for chart in shown]) for kind, shown in section.content] == [
        ('by-step', ['x/1', 'x/2'])
    ]


def test_a_run_has_one_colour_in_all_charts(tmp_path):
    for name, metrics in (('a', ('x/1',)), ('b', ('x/1', 'x/2')), ('none', ())):
        make(tmp_path / name, OLD)
        rows = [{'step': step, **dict.fromkeys(metrics, step)} for step in (1, 2)]
        (tmp_path / name / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    section = comparison_page._curves([read(tmp_path / name) for name in ('none', 'a', 'b')])
    [(_, shown)] = section.content
    assert [(line.colour, line.name) for chart in shown for line in chart.legend] == [
        ('c0', 'a'),
        ('c1', 'b'),
        ('c1', 'b'),
    ]
