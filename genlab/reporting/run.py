"""report.html: one page about a run, built only from the files in its folder.

Reads config.json, environment.json, networks.json, metrics.jsonl, samples/*.png, evaluation.json, and the pictures
(PNG, GIF) in evaluation/ and explore/. Any of them may be missing or half-written: its section is left out or says so.

A metric is named player/term and shares the chart of its player, unless its numbers are of another size. One without a
slash has a separate chart. So has each figure of samples and evaluations, together with its reference: modes and
of_modes, sliced_wasserstein and sliced_wasserstein_of_data. `seconds`, the training time of the process, has none.
"""

import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from genlab.reporting import curves, page
from genlab.reporting.charts import Chart, chart, number, split
from genlab.reporting.figures import alarms, flatten, is_number
from genlab.reporting.page import Card, Page, Section
from genlab.reporting.samples import figures_of, samples
from genlab.reporting.tables import evaluation_of, networks_of, settings, text
from genlab.run.better import BETTER
from genlab.run.files import path_of, write_text
from genlab.run.logs import read_metrics

FACTS = ('started', 'host', 'device', 'devices', 'commit', 'git commit', 'git_commit')  # of the environment


def write(workdir: str | os.PathLike[str]) -> str:
    """Writes workdir/report.html atomically and returns its path."""
    path = os.path.join(workdir, 'report.html')
    write_text(path, render(workdir))
    return path


def render(workdir: str | os.PathLike[str]) -> str:
    """Returns the page as HTML."""
    notices: list[str] = []
    config, environment, networks, evaluation = (
        read_json(os.path.join(workdir, f'{name}.json'), notices)
        for name in ('config', 'environment', 'networks', 'evaluation')
    )
    rows = read_metrics(workdir)
    folder = os.path.basename(os.path.abspath(workdir))
    title = str(config.get('name') or folder)
    step = evaluation.get('step')
    of_step = f'of step {step:,}' if is_number(step) else ''
    sections = [
        Section('Samples', 'samples', samples(os.path.join(workdir, 'samples'))),
        curves.section([('', _charts(rows))]),
        Section('Evaluation', 'evaluation', evaluation_of(evaluation, os.path.join(workdir, 'evaluation')), of_step),
        Section('Latent space', 'pictures', figures_of(os.path.join(workdir, 'explore'))),
        Section('Networks', 'networks', networks_of(networks)),
        Section('Config', 'settings', settings(config), find='a setting'),
        Section('Environment', 'settings', settings(environment), find='a setting'),
    ]
    status, done = _status(config, rows)
    return page.render(
        Page(
            title=f'{title} · report',
            heading=title,
            facts=_facts(folder, environment),
            sections=sections,
            footer='Made from the files of the run alone.',
            status=status,
            done=done,
            alarms=alarms(evaluation),
            notices=notices,
            cards=_cards(config, rows, networks, evaluation),
        )
    )


def read_json(path: str, notices: list[str]) -> dict[str, Any]:
    """Reads the dict in a JSON file; if there is none, returns {} and appends the reason to `notices`."""
    name = os.path.basename(path)
    try:
        value = json.loads(path_of(path).read_text(encoding='utf-8'))
        if isinstance(value, dict):
            return value
        notices.append(f'{name} does not hold an object.')
    except FileNotFoundError:
        if name == 'config.json':
            notices.append('There is no config.json: is this the workdir of a run?')
    except (ValueError, OSError):
        notices.append(f'{name} cannot be read; it may be half-written.')
    return {}


def _progress(config: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> tuple[int, int | None]:
    """Returns the finished steps, and all steps or None if unknown."""
    total = config['train'].get('steps') if isinstance(config.get('train'), dict) else None
    return max((row['step'] for row in rows), default=0), total if isinstance(total, int) and total > 0 else None


def _status(config: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> tuple[str, bool]:
    """Returns the state of the training as text, and whether it is complete."""
    done, total = _progress(config, rows)
    complete = total is not None and done >= total
    return 'complete' if complete else f'at {done / total:.0%}' if total else f'at step {done:,}', complete


def _facts(folder: str, environment: Mapping[str, Any]) -> list[str]:
    """Returns the main facts of the environment."""
    found = {name.split('/')[-1]: value for name, value in flatten(environment) if name.split('/')[-1] in FACTS}
    return [f'workdir: {folder}', *(f'{name.replace("_", " ")}: {text(value)}' for name, value in found.items())]


def _cards(
    config: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    networks: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> list[Card]:
    """Returns the headline figures: steps, time, speed, parameters and three figures of the evaluation."""
    done, total = _progress(config, rows)
    cards = [Card('steps', f'{done:,}', f'of {total:,}' if total and done < total else '')]
    seconds = seconds_of(rows)
    if seconds:
        cards.append(Card('training time', _duration(seconds)))
    speeds = [row['images_per_second'] for row in rows if is_number(row.get('images_per_second'))]
    if speeds:
        cards.append(Card('images per second', number(round(statistics.median(speeds), 1))))
    for name, network in networks.items():
        if isinstance(network, dict) and isinstance(network.get('parameters'), int):
            count = network['parameters']
            cards.append(Card(f'{name} parameters', number(count) if count < 1e7 else f'{count / 1e6:.4g}M'))
    figures = evaluation.get('figures')
    numbers = {name: value for name, value in figures.items() if is_number(value)} if isinstance(figures, dict) else {}
    headline = sorted(numbers, key=lambda name: name not in BETTER)[:3]  # figures with a direction first
    return cards + [Card(name.replace('_', ' '), number(numbers[name])) for name in headline]


def seconds_of(rows: Iterable[Mapping[str, Any]]) -> float:
    """Returns the training time: the sum of the last `seconds` of each process, where the count restarts at 0."""
    times = [row['seconds'] for row in rows if is_number(row.get('seconds'))]
    return sum(time for time, later in zip(times, times[1:] + [-1]) if later < time)


def _duration(seconds: float) -> str:
    """Formats seconds as 42 s, 10 min or 1 h 02."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f'{hours} h {minutes:02}' if hours else f'{minutes} min' if minutes > 2 else f'{seconds:.0f} s'


def _charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Returns the charts: of players, then of samples and evaluations, then of metrics without a player."""
    groups: dict[tuple[int, str], curves.Curves] = {}
    for name, curve in curves.series_of(rows).items():
        player, slash, term = name.partition('/')
        if len(curve[0]) < 2 and len(rows) > 2:
            continue  # one number is no curve; the table of the evaluation has it
        if term == 'gradient_norm':  # its scale differs: on one axis it would flatten the losses
            player, term = term, player
        elif player in curves.MEASURED:
            player = f'{player}: {_measured(term)}'
        group = curves.kind(name), player.replace('_', ' ')
        groups.setdefault(group, {})[term if slash else name.replace('_', ' ')] = curve
    return [
        chart(f'{name}: {", ".join(part)}' if number else name, part)
        for (_, name), series in sorted(groups.items(), key=lambda item: item[0][0])
        for number, part in enumerate(split(series))
    ]


def _measured(figure: str) -> str:
    """Returns what a figure or its reference measures: modes of of_modes, psnr of psnr_of_input."""
    return figure.removeprefix('of_').split('_of_')[0]
