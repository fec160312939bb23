"""Small copies of runs: what the tables of results need, in a form that a repository can hold."""

import json
import pathlib
from typing import Any

from genlab.reporting.comparison_pictures import pictures
from genlab.reporting.comparison_tables import Run, parameters
from genlab.reporting.run import seconds_of
from genlab.run.files import write_atomically

ENVIRONMENT = ('command', 'commit', 'cores', 'device_kind', 'devices', 'python', 'versions')


def keep(run: Run, folder: pathlib.Path) -> None:
    """Writes a run as `comparison_tables.read` reads it: one line of metrics, totals of networks, small pictures.

    The config loses the folder of the data, and the environment keeps only machine and versions.
    """
    data = {**run.config.get('data', {}), 'dir': ''}
    last = {'step': max((row['step'] for row in run.rows), default=0), 'seconds': round(seconds_of(run.rows), 1)}
    documents: dict[str, Any] = {
        'config': {**run.config, 'data': data},
        'environment': {name: value for name, value in run.environment.items() if name in ENVIRONMENT},
        'networks': {name: {'parameters': number} for name, number in parameters(run).items()},
        'evaluation': run.evaluation,
    }
    for name, document in documents.items():
        _write(folder / f'{name}.json', json.dumps(document, indent=1).encode() + b'\n')
    _write(folder / 'metrics.jsonl', json.dumps(last).encode() + b'\n')
    for name, picture in pictures(run):
        path = f'samples/{last["step"]}.png' if name == 'samples' else f'evaluation/{name}.png'
        _write(folder / path, picture.data)


def _write(path: pathlib.Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(str(path), content)
