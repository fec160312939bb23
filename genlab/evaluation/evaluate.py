"""Evaluates a model with every evaluator that applies to its abilities, and records what each figure depends on.

An evaluator measures one ability: `evaluate(subject) -> Part`. The conditions of its figures are hashed to an id; two
figures compare only if their ids are equal.
"""

import json
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from genlab.data import fingerprint
from genlab.errors import ConfigError
from genlab.evaluation.alarms import alarms
from genlab.evaluation.evaluators import PARTS
from genlab.evaluation.metrics.likelihood import treatment
from genlab.evaluation.subject import Part, Subject
from genlab.experiment import Experiment
from genlab.run import images
from genlab.run.files import start_empty, write_json
from genlab.run.protocol import VERSION, identify
from genlab.training import parallel
from genlab.training.state import State


class Evaluation(NamedTuple):
    """The result of all evaluators."""

    figures: Mapping[str, Any]  # name -> number, {class: number}, or a text on too few examples
    protocol: Mapping[str, Mapping]  # evaluator -> id, the names of its figures, and the conditions
    alarms: list[str]  # one line per failure of the model
    seconds: Mapping[str, float]  # evaluator -> duration
    rates: Mapping[str, float]  # operation -> examples per second
    pictures: Mapping[str, np.ndarray] = {}  # name -> uint8 [H, W, C]


def evaluate(
    config: ConfigDict,
    experiment: Experiment,
    placement: parallel.Placement,
    state: State,
    note: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Evaluates a model with the evaluators of `config.evaluate.parts` that apply.

    Averaged weights are used if the run keeps them.

    Args:
      config: config of the run.
      experiment: the model.
      placement: placement of the state.
      state: state of the run.
      note: called with one line of progress per evaluator.

    Raises:
      ConfigError: `config.evaluate` has an unknown name, or one that does not apply to the data.
    """
    if unknown := sorted({*config.evaluate.parts} - {*PARTS}):
        raise ConfigError(f'config.evaluate.parts has {unknown[0]}: choose from {", ".join(PARTS)}')
    subject = Subject(config, experiment, placement, state.variables(averaged=True))
    common = {
        'data': subject.compared('test').name,
        'fingerprint': _fingerprint(subject),
        'observed': _observed(subject),
        'seed': config.evaluate.seed,
        'parameters': 'averaged' if state.average else 'raw',
    }
    evaluation = Evaluation({}, {}, [], {}, {})
    for name in config.evaluate.parts:
        if not PARTS[name].applies(subject):
            continue
        start = time.perf_counter()
        part = PARTS[name].evaluate(subject)
        seconds = time.perf_counter() - start
        note(f'evaluated {name.replace("_", " ")} in {seconds:.1f} s')
        evaluation = _add(evaluation, name, part, common, seconds)
    return evaluation._replace(alarms=alarms(evaluation.figures))


def _add(evaluation: Evaluation, name: str, part: Part, common: Mapping[str, Any], seconds: float) -> Evaluation:
    """Returns the evaluation with the results of one more evaluator."""
    conditions = {**common, **part.protocol}
    protocol = {'id': identify(conditions), 'figures': [*part.figures], **conditions}
    figures = {figure: _jsonable(value) for figure, value in part.figures.items()}
    return evaluation._replace(
        figures={**evaluation.figures, **figures},
        protocol={**evaluation.protocol, name: protocol},
        seconds={**evaluation.seconds, name: round(seconds, 2)},
        rates={**evaluation.rates, **part.rates},
        pictures={**evaluation.pictures, **part.pictures},
    )


def _fingerprint(subject: Subject) -> str:
    """Returns one digest of both splits, whatever examples training leaves out: samples are compared with all."""
    return fingerprint.of_values([fingerprint.of(subject.compared(split)).digest for split in ('train', 'test')])


def _observed(subject: Subject) -> str:
    """Describes what samples are compared with: the shape of an example, and how the data are treated."""
    config_data, source = subject.whole.data, subject.compared('test')
    shape = source.fields[config_data.observe].shape
    return f'{"x".join(map(str, shape))}, {treatment(config_data, source)}'


def _jsonable(figure: Any) -> Any:
    """Replaces a figure that JSON cannot represent by a text: infinities and nan."""
    return f'not a finite number ({figure})' if isinstance(figure, float) and not math.isfinite(figure) else figure


def scalars(evaluation: Evaluation) -> dict[str, float]:
    """Returns the figures that are single numbers."""
    return {name: value for name, value in evaluation.figures.items() if isinstance(value, (int, float))}


def write(folder: pathlib.Path, step: int, evaluation: Evaluation) -> None:
    """Writes evaluation.json, and the pictures to evaluation/ in place of those of an earlier evaluation.

    Args:
      folder: folder of the run.
      step: step of the state that was evaluated.
      evaluation: the result.
    """
    start_empty(folder / 'evaluation', ('*.png',))
    for name, picture in evaluation.pictures.items():
        images.save_png(folder / 'evaluation' / f'{name}.png', picture)
    write_json(folder / 'evaluation.json', {'step': step, 'version': VERSION, **plain(evaluation)})


def plain(evaluation: Evaluation) -> dict[str, Any]:
    """Returns the evaluation as JSON values, without pictures."""
    return {name: value for name, value in evaluation._asdict().items() if name != 'pictures'}


def steps(folder: pathlib.Path) -> set[int]:
    """Returns the step in evaluation.json, or the empty set if there is none."""
    try:
        return {json.loads((folder / 'evaluation.json').read_text())['step']}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
