"""Tests the evaluator of layouts by samplers that know the layout, and by a classifier that knows colours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab import config as configs
from genlab.conditioning import Conditions
from genlab.data.layouts import FIELDS
from genlab.data.sources.scenes.scenes import scenes
from genlab.evaluation.evaluators import layouts
from genlab.evaluation.features import classifier, objects
from genlab.evaluation.subject import Subject
from genlab.training import parallel
from support.experiments import stub


class Greys:
    """Judges a crop by its mean grey: class k of eight is 0.25 k - 0.875."""

    accuracy = 1.0

    def probabilities(self, images):
        return np.eye(8)[np.clip(np.round((images.mean((1, 2, 3)) + 0.875) / 0.25), 0, 7).astype(int)]


def paint(variables, keys, condition):
    """Fills each box with the grey of its class, on a ground that depends on the key."""
    centres = (jnp.arange(32) + 0.5) / 32
    x0, y0, x1, y1 = jnp.moveaxis(condition['boxes'], -1, 0)[..., None]
    inside = lambda low, high: (low <= centres[None, None]) & (centres[None, None] <= high)
    shape = inside(y0, y1)[..., :, None] & inside(x0, x1)[..., None, :]  # [N, M, H, W]
    grounds = jax.vmap(lambda key: jax.random.uniform(key, (3,)))(keys)
    image = jnp.broadcast_to(grounds[:, None, None], (len(keys), 32, 32, 3))
    for slot in range(shape.shape[1]):
        grey = 0.25 * (condition['box_classes'][:, slot] + variables['shift']) - 0.875
        image = jnp.where(shape[:, slot, ..., None], grey[:, None, None, None], image)
    return image


def subject_of(shift):
    config = configs.defaults('x')
    config.data.update(source='scenes', resolution=32, channels=3, fields=FIELDS)
    config.evaluate.count = 40
    placement = parallel.place('pmap')
    variables = parallel.replicate(placement, {'shift': np.float32(shift)})
    return Subject(config, stub(sample=paint, conditions=Conditions(fields=FIELDS)), placement, variables)


def test_classes_in_boxes_are_counted_and_a_moved_box_changes_itself_alone(monkeypatch):
    monkeypatch.setattr(classifier, 'trained', lambda train, test: Greys())
    subject = subject_of(0)
    assert layouts.applies(subject)
    part = layouts.evaluate(subject)
    figures = part.figures
    assert figures['box_accuracy'] > 0.8  # the border of a box is mixed with the ground
    assert figures['box_accuracy_ratio'] == pytest.approx(figures['box_accuracy'] / figures['box_accuracy_of_data'])
    assert figures['box_accuracy_of_data'] < 0.5  # real kinds have no grey of their own
    assert figures['moved_box_change_outside'] == 0 < figures['moved_box_change_inside']
    assert part.protocol['boxes'] > 40 and {*part.pictures} == {'layouts', 'moved_box'}
    assert layouts.evaluate(subject_of(1)).figures['box_accuracy'] < 0.2


def test_a_source_of_objects_has_one_crop_per_image():
    whole = scenes(32, 3, 'test', ('image', *FIELDS))
    single, indices = objects.single(whole), np.arange(6)
    rows, found = single.rows(indices), whole.rows(indices)
    assert rows['image'].shape == (6, 16, 16, 3) and rows['image'].dtype == np.uint8
    slots = indices % (found['box_classes'] >= 0).sum(1)
    assert slots.any()
    np.testing.assert_array_equal(rows['label'], found['box_classes'][indices, slots])
    x0, y0, x1, y1 = np.round(found['boxes'][0, 0] * 32).astype(int)
    mean = found['image'][0, y0:y1, x0:x1].mean((0, 1))
    np.testing.assert_allclose(rows['image'][0].mean((0, 1)), mean, atol=12)
    assert single.fingerprint().digest != whole.fingerprint().digest
