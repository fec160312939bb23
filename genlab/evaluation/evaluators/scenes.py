"""Scenes with one shape: whether samples show the kind, colour and place of their caption, and reconstructions theirs.

Images are read by `genlab.evaluation.metrics.scenes`, without a network. Captions are those of held-out scenes. Where
training holds out combinations (`config.data.hold_out`), all captions are of these combinations.
"""

from typing import Any

import numpy as np

from genlab import data
from genlab.data.sources.scenes import layout
from genlab.evaluation.metrics import scenes
from genlab.evaluation.subject import Part, Subject, compiled
from genlab.run import images
from genlab.sampling import drawing, rejection

CAPTIONS = 200  # most captions
SHOWN = 48  # examples in a picture
BLOCK = 500  # scenes per read


def applies(subject: Subject) -> bool:
    """Returns whether samples are drawn from captions of scenes, or scenes are reconstructed."""
    of = subject.whole.data
    readable = of.source == 'scenes' and of.observe == 'image' and of.channels == 3 and of.shapes in (0, 1)
    return readable and (_captioned(subject) or _reconstructs(subject))


def evaluate(subject: Subject) -> Part:
    """Compares samples with their captions. Adds the chance level, and the figures of real pictures."""
    indices = _held_out(subject)
    protocol: dict[str, Any] = {
        'captions': len(indices),
        'held_out_combinations': subject.whole.data.hold_out,
        **subject.selected,
    }
    if len(indices) < 2:
        return Part(protocol, {'scene_all': f'needs two held-out scenes with one shape, there is {len(indices)}'})
    rows = _load(subject, 'caption').rows(indices)
    asked = _numbers(rows['factors'])
    versions = {'': _samples(subject, indices)} if _captioned(subject) else {}
    versions['_of_data'] = rows['image'] / np.float32(127.5) - 1
    if _reconstructs(subject):
        found = subject.over(compiled(subject.experiment.reconstruct), purpose='reconstruct', indices=indices)
        versions['_of_reconstructions'] = found['output']
    figures: dict[str, Any] = {}
    for name, version in versions.items():
        lost = int((~np.isfinite(version).all((1, 2, 3))).sum())
        read = {part: numbers[:, 0] for part, numbers in scenes.read(np.nan_to_num(version)).items()}
        shares = scenes.agreement(read, asked)
        if name:  # chance is of interest for the samples
            shares = {part: share for part, share in shares.items() if not part.endswith('chance')}
        figures |= {
            f'scene_{part}{name}': f'{lost} are not finite' if lost else share for part, share in shares.items()
        }
    shown = {name: version[:SHOWN] for name, version in versions.items()}
    return Part(protocol, figures, {'scenes': images.pairs(shown)})


def _captioned(subject: Subject) -> bool:
    """Returns whether samples are drawn from captions."""
    return subject.experiment.sampler is not None and bool(subject.experiment.conditions.words)


def _reconstructs(subject: Subject) -> bool:
    """Returns whether images are reconstructed."""
    return subject.experiment.reconstruct is not None and subject.images


def _load(subject: Subject, *fields: str) -> data.Source:
    """Returns held-out scenes with their factors and other fields."""
    return data.load(subject.whole.data, 'test', ('factors', *fields))


def _held_out(subject: Subject) -> np.ndarray:
    """Returns the indices of the first held-out scenes with one shape, at most CAPTIONS and `config.evaluate.count`."""
    source, wanted = _load(subject), min(CAPTIONS, subject.config.evaluate.count)
    found = np.zeros(0, np.int64)
    for first in range(0, len(source), BLOCK):
        block = np.arange(first, min(first + BLOCK, len(source)))
        factors = source.rows(block)['factors']
        chosen = factors[:, layout.FACTORS.index('present_1')] == 0
        if subject.whole.data.hold_out:
            chosen &= layout.held_out(**_numbers(factors))
        found = np.concatenate([found, block[chosen]])[:wanted]
        if len(found) == wanted:
            break
    return found


def _numbers(factors: np.ndarray) -> dict[str, np.ndarray]:
    """Returns kind, colour and place of the first shape, int [N] each, from factors [N, 31]."""
    column = lambda name: factors[:, layout.FACTORS.index(f'{name}_0')]
    numbers = {name: column(name).astype(np.int64) for name in ('kind', 'colour')}
    return {**numbers, 'place': layout.places_of(column('x'), column('y'))}


def _samples(subject: Subject, indices: np.ndarray) -> np.ndarray:
    """Draws a sample for each of the given held-out scenes, which hold its condition."""
    count, seed, whole = len(indices), subject.config.evaluate.seed, subject.whole.copy_and_resolve_references()
    whole.data.fields = tuple({*whole.data.fields, 'caption'})
    held_out = drawing.held_out(whole, subject.experiment.conditions)
    condition = lambda numbers: held_out(indices[numbers % count])
    model = subject.experiment, subject.placement, subject.variables, subject.config
    return rejection.draw(*model, count, seed, conditions=condition)
