"""Judging a model."""

import json
import pathlib

from genlab.workdir import write_json


def evaluate(config, experiment, placement, state):
    return {'nothing': 1.0}


def write(folder: pathlib.Path, step: int, figures: dict) -> None:
    write_json(folder / 'evaluation.json', {'step': step, 'figures': figures})


def steps(folder: pathlib.Path) -> set[int]:
    try:
        return {json.loads((folder / 'evaluation.json').read_text())['step']}
    except (OSError, ValueError, KeyError):
        return set()
