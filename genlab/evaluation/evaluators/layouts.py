"""Images from layouts: whether each box holds an object of the requested class, and moves its object alone.

A classifier of crops of real objects judges the crops of samples. For comparison it judges the real images with the
same layouts.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genlab.data.layouts import FIELDS
from genlab.evaluation.features import classifier, objects
from genlab.evaluation.subject import Part, Subject
from genlab.latents import strips
from genlab.run import images
from genlab.sampling import drawing

SHOWN = 32  # examples in a picture
ROWS, STEPS = 8, 8  # layouts whose box moves, and places of the box
LOOKED_AT = 200  # held-out layouts among which those are chosen


def applies(subject: Subject) -> bool:
    """Returns whether images are sampled from boxes with classes."""
    asked = {*FIELDS} <= {*subject.experiment.conditions.fields}
    return asked and subject.experiment.sampler is not None and subject.whole.data.observe == 'image'


def evaluate(subject: Subject) -> Part:
    """Classifies the objects of samples and of real images, and moves boxes with the latents as they are."""
    samples, source = subject.samples, subject.compared('test')
    numbers = np.arange(len(samples))
    condition = drawing.condition_at(subject.config, subject.experiment.conditions, subject.config.evaluate.seed)
    layout = {name: np.asarray(rows) for name, rows in condition(numbers).items()}
    real = source.rows(numbers % len(source))['image'] / np.float32(127.5) - 1
    judge = classifier.trained(objects.single(subject.compared('train')), objects.single(source))
    finite = np.isfinite(samples).all((1, 2, 3))
    present = layout['box_classes'] >= 0
    protocol = {
        'samples': len(samples),
        'boxes': int(present.sum()),
        'objects_by': f'classifier of {objects.SIDE}x{objects.SIDE} crops, test accuracy {judge.accuracy:.4f}',
        **subject.selected,
    }
    if not present.any():
        return Part(protocol, {'box_accuracy': 'no held-out layout has a box'})
    right = {name: _right(judge, np.nan_to_num(x), layout) for name, x in (('samples', samples), ('data', real))}
    right['samples'] &= finite[:, None]
    shares = {name: float(found[present].mean()) for name, found in right.items()}
    moved, changes = _move(subject)
    figures = {
        'box_accuracy': shares['samples'],
        'box_accuracy_of_data': shares['data'],
        'box_accuracy_ratio': shares['samples'] / max(shares['data'], 1e-9),
        **changes,
    }
    shown = {'x': real[:SHOWN], 'samples': np.nan_to_num(samples[:SHOWN])}
    return Part(protocol, figures, {'layouts': images.pairs(shown), **moved})


def _right(judge: classifier.Classifier, x: np.ndarray, layout: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns whether each object [N, M] of images [N, H, W, C] is classified as its class. Absent ones are not."""
    crops = objects.crops(x, layout['boxes'])
    flat = crops.reshape(-1, *crops.shape[2:])
    return judge.probabilities(flat).argmax(1).reshape(crops.shape[:2]) == layout['box_classes']


def _move(subject: Subject) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Moves the last box of some held-out layouts from left to right, with all latents as they are.

    Returns:
      A strip per layout as the picture `moved_box`, and the mean absolute change of pixels from the first place:
      inside the first and the current box, and elsewhere. Layouts of a single object are left out.
    """
    source = subject.compared('test')
    rows = source.rows(np.arange(min(LOOKED_AT, len(source))))
    count = (rows['box_classes'] >= 0).sum(1)
    chosen = np.flatnonzero(count > 1)[:ROWS]
    if not len(chosen):
        return {}, {}
    boxes = np.repeat(rows['boxes'][chosen][:, None], STEPS, 1)  # [rows, steps, M, 4]
    last, each = count[chosen] - 1, np.arange(len(chosen))
    wide = boxes[each, 0, last, 2] - boxes[each, 0, last, 0]
    start = np.linspace(0, 1, STEPS)[None] * (1 - wide[:, None])
    boxes[each, :, last, 0], boxes[each, :, last, 2] = start, start + wide[:, None]
    layout = {
        'boxes': boxes.reshape(-1, *boxes.shape[2:]).astype(np.float32),
        'box_classes': np.repeat(rows['box_classes'][chosen], STEPS, 0),
    }
    drawn = drawing.draw(
        *(subject.experiment, subject.placement, subject.variables, subject.config),
        count=len(layout['boxes']),
        seed=subject.config.evaluate.seed,
        conditions=lambda block: {name: rows[block % len(rows)] for name, rows in layout.items()},
        numbers=np.repeat(chosen, STEPS),
    ).reshape(len(chosen), STEPS, *subject.samples.shape[1:])
    inside = _covered(boxes[each, :, last], drawn.shape[2:4])  # [rows, steps, H, W]
    inside |= inside[:, :1]
    change = np.abs(drawn - drawn[:, :1]).mean(-1)[:, 1:]
    figures = {
        'moved_box_change_inside': float(change[inside[:, 1:]].mean()),
        'moved_box_change_outside': float(change[~inside[:, 1:]].mean()),
    }
    return {'moved_box': strips.strip(np.nan_to_num(drawn))}, figures


def _covered(boxes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Returns which pixels have their centre in a box: boxes [..., 4] -> bool [..., H, W]."""
    y, x = ((np.arange(side) + 0.5) / side for side in size)
    x0, y0, x1, y1 = np.moveaxis(boxes, -1, 0)[..., None]
    rows, columns = (y0 <= y) & (y <= y1), (x0 <= x) & (x <= x1)
    return rows[..., :, None] & columns[..., None, :]
