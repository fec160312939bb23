"""Judging a model by its samples and by held-out data, with everything a figure depends on written beside it."""

import json
import pathlib

import numpy as np
from ml_collections import ConfigDict

from genlab import data, parallel, sampling
from genlab.evaluation import classifier, toy
from genlab.experiment import Experiment
from genlab.state import State
from genlab.workdir import write_json


def evaluate(config: ConfigDict, experiment: Experiment, placement: parallel.Placement, state: State) -> dict[str, dict]:
    """{'protocol': what the figures depend on, 'figures': name -> number, or class -> number}. Averaged weights are used."""
    variables, count = state.variables(averaged=True), config.evaluate.count
    source = data.load(config.data, 'test')
    protocol = {'data': source.name, 'samples': count, 'held_out': min(len(source), count), 'seed': config.seed,
                'weights': 'averaged' if state.average else 'raw'}
    samples = sampling.draw(experiment, placement, variables, config, count)
    figures: dict = {'finite': float(np.isfinite(samples).all())}
    if source.centres is not None:
        figures |= toy.modes(samples, source)
    if 'label' in source.fields and config.data.observe == 'image':
        judge = classifier.load(config.data)
        protocol |= {'classifier': f'version {classifier.VERSION}, test accuracy {judge.accuracy:.4f}'}
        figures |= class_shares(samples, judge)
    if experiment.measure is not None:
        figures |= measures(config, experiment, placement, variables, source)
    return {'protocol': protocol, 'figures': figures}


def class_shares(samples: np.ndarray, judge: classifier.Classifier) -> dict:
    """The share of each class among images [N, H, W, C], the smallest and largest, and the classifier's mean confidence."""
    probabilities = judge.probabilities(samples)
    shares = np.bincount(probabilities.argmax(1), minlength=len(judge.classes)) / len(samples)
    return {'class_share': dict(zip(judge.classes, map(float, shares))), 'smallest_share': float(shares.min()),
            'largest_share': float(shares.max()), 'confidence': float(probabilities.max(1).mean())}


def measures(config: ConfigDict, experiment: Experiment, placement: parallel.Placement, variables, source: data.Source) -> dict:
    """The means of the experiment's own measures over held-out examples, summed with counts."""
    held_out, measure = sampling.held_out(config), sampling.jitted(experiment.measure)
    sums: dict[str, float] = {}
    chunk, total = config.data.batch_size, min(len(source), config.evaluate.count)
    for first in range(0, total, chunk):
        indices = np.arange(first, first + chunk)
        examples = held_out(indices), sampling.keys(config.seed, first, chunk, 'measure')
        values = parallel.run(placement, lambda variables, both: measure(variables, *both), variables, examples)
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(np.sum(value[indices < total], dtype=np.float64))
    return {name: value / total for name, value in sums.items()}


def scalars(judged: dict[str, dict]) -> dict[str, float]:
    """The figures that are single numbers."""
    return {name: value for name, value in judged['figures'].items() if isinstance(value, (int, float))}


def write(folder: pathlib.Path, step: int, judged: dict[str, dict]) -> None:
    """evaluation.json"""
    write_json(folder / 'evaluation.json', {'step': step, **judged})


def steps(folder: pathlib.Path) -> set[int]:
    """The step that evaluation.json is of, if it is there."""
    try:
        return {json.loads((folder / 'evaluation.json').read_text())['step']}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
