"""Judging a model by all that it can do, with everything a figure depends on written beside it.

A part is a judge of one ability: `judge(subject) -> Part`. What a part's figures depend on is hashed into an id; two figures
compare only if their ids are equal."""

import hashlib
import json
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from genlab.errors import ConfigError
from genlab.evaluation.alarms import alarms
from genlab.evaluation.evaluators import PARTS
from genlab.evaluation.metrics.likelihood import treatment
from genlab.evaluation.subject import Part, Subject
from genlab.experiment import Experiment
from genlab.run import images
from genlab.run.workdir import write_json
from genlab.training import parallel
from genlab.training.state import State

VERSION = 1  # of how figures are computed: another number is another protocol


class Judgement(NamedTuple):
    """All that was found."""

    figures: Mapping[str, Any]  # name -> number, class -> number, or words where there are too few examples
    protocol: Mapping[str, Mapping]  # part -> id, the names of its figures, and what they depend on
    alarms: list[str]  # what went wrong with the model, a line each
    seconds: Mapping[str, float]  # part -> how long it took
    rates: Mapping[str, float]  # what was done -> how many a second
    pictures: Mapping[str, np.ndarray] = {}  # name -> uint8 [H, W, C]


def evaluate(
    config: ConfigDict,
    experiment: Experiment,
    placement: parallel.Placement,
    state: State,
    note: Callable[[str], None] = lambda text: None,
) -> Judgement:
    """Judges a model, by its averaged weights where they are kept, with the parts of `config.evaluate.parts` that apply.

    note: told what is done, so that nobody wonders."""
    if unknown := sorted({*config.evaluate.parts} - {*PARTS}):
        raise ConfigError(f'config.evaluate.parts has {unknown[0]}: choose from {", ".join(PARTS)}')
    subject = Subject(config, experiment, placement, state.variables(averaged=True))
    common = {
        'data': subject.test.name,
        'observed': _observed(config, subject),
        'seed': config.evaluate.seed,
        'parameters': 'averaged' if state.average else 'raw',
    }
    judged = Judgement({}, {}, [], {}, {})
    for name in config.evaluate.parts:
        if not PARTS[name].applies(subject):
            continue
        began = time.perf_counter()
        part = PARTS[name].judge(subject)
        seconds = time.perf_counter() - began
        note(f'judged {name.replace("_", " ")} in {seconds:.1f} s')
        judged = _add(judged, name, part, common, seconds)
    return judged._replace(alarms=alarms(judged.figures))


def _add(judged: Judgement, name: str, part: Part, common: Mapping[str, Any], seconds: float) -> Judgement:
    """The judgement with what one part found."""
    conditions = {**common, **part.protocol}
    protocol = {'id': identify(conditions), 'figures': [*part.figures], **conditions}
    figures = {figure: _words(value) for figure, value in part.figures.items()}
    return judged._replace(
        figures={**judged.figures, **figures},
        protocol={**judged.protocol, name: protocol},
        seconds={**judged.seconds, name: round(seconds, 2)},
        rates={**judged.rates, **part.rates},
        pictures={**judged.pictures, **part.pictures},
    )


def _observed(config: ConfigDict, subject: Subject) -> str:
    """What is modelled, in words: the shape of an example and how the data are treated."""
    shape = subject.test.fields[config.data.observe].shape
    return f'{"x".join(map(str, shape))}, {treatment(config.data, subject.test)}'


def _words(figure: Any) -> Any:
    """A figure as JSON can keep it: in words where it is no finite number."""
    return f'not a finite number ({figure})' if isinstance(figure, float) and not math.isfinite(figure) else figure


def identify(conditions: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that are equal if and, but for chance, only if the conditions are."""
    return hashlib.sha256(json.dumps([VERSION, conditions], sort_keys=True).encode()).hexdigest()[:8]


def scalars(judged: Judgement) -> dict[str, float]:
    """The figures that are single numbers."""
    return {name: value for name, value in judged.figures.items() if isinstance(value, (int, float))}


def write(folder: pathlib.Path, step: int, judged: Judgement) -> None:
    """evaluation.json, and the pictures in evaluation/."""
    (folder / 'evaluation').mkdir(exist_ok=True)
    for name, picture in judged.pictures.items():
        images.save_png(folder / 'evaluation' / f'{name}.png', picture)
    write_json(folder / 'evaluation.json', {'step': step, **plain(judged)})


def plain(judged: Judgement) -> dict[str, Any]:
    """The judgement as JSON, without its pictures."""
    return {name: value for name, value in judged._asdict().items() if name != 'pictures'}


def steps(folder: pathlib.Path) -> set[int]:
    """The step that evaluation.json is of, if it is there."""
    try:
        return {json.loads((folder / 'evaluation.json').read_text())['step']}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
