"""From a config to a source: the one place that reads `config.data` for it."""

import numpy as np

from genlab.data.source import Source, image_field, label_field, subset
from genlab.data.sources.digits import digits
from genlab.data.sources.folder import folder
from genlab.data.sources.scenes.scenes import scenes
from genlab.data.sources.tfds import tfds
from genlab.data.sources.toy import toy
from genlab.errors import ConfigError, meant

SPLITS = ('train', 'test')


def defaults(**changes):
    """`config.data` with every line that `load`, `prepare` and the loop read; `changes` are set over it.

    source: digits, toy, scenes, tfds or folder.
    name: the toy density (ring, grid, moons, roll2d, roll3d, curve) or the TFDS set (mnist, cifar10, ...).
    dir: the folder of images, or TFDS's data_dir; '' is TFDS's default.
    resolution: pixels of a side; images are cut to the central square and resized (bilinear, antialiased).
    channels: 1 or 3; grey is repeated, colour becomes its luma.
    batch_size: examples in a global batch.
    observe: the field that the model models, `x` after `prepare`.
    fields: what it needs beside that one and `label`, e.g. ('caption',).
    resident: whether the loop keeps the whole set on the accelerator and sends only `Batches.indices`.
    workers: processes that read ahead for a set that is not in memory; 0 reads in threads.
    flip: mirror images left to right with probability 1/2, when training.
    binarise: draw pixels -1 or 1 with the intensity as the probability.
    dequantise: add uniform noise of one level, for densities of continuous values.
    crop_padding: pixels of reflected border that a random crop may reach into, when training; 0 is no crop.
    leave_out: labels whose examples are kept out of the training set, e.g. (3,), to be found as anomalies.
    """
    from ml_collections import ConfigDict

    known = ConfigDict(
        {
            'source': 'digits',
            'name': '',
            'dir': '',
            'resolution': 32,
            'channels': 1,
            'batch_size': 64,
            'observe': 'image',
            'fields': (),
            'resident': False,
            'workers': 0,
            'flip': False,
            'binarise': False,
            'dequantise': False,
            'crop_padding': 0,
            'leave_out': (),
        }
    )
    for name in changes:
        _known(f'config.data.{name}', name, known)
    known.update(changes)
    return known


def load(config_data, split='train', fields=()):
    """The source that `config_data` (see `defaults`) names -> Source.

    split: 'train' or 'test'. fields: those that are needed beside the observed one, `label` and the config's own; only
    scenes draw less when fewer are asked for, the other sources give what they have.
    """
    name, observe, fields = config_data.source, config_data.observe, (*config_data.fields, *fields)
    _known('config.data.source', name, SOURCES)
    _known('split', split, SPLITS)
    if config_data.channels not in (1, 3):
        raise ConfigError(f'config.data.channels={config_data.channels}: choose 1 (grey) or 3 (colour)')
    if config_data.resolution < 1:
        raise ConfigError(f'config.data.resolution={config_data.resolution}: choose at least 1')
    source = SOURCES[name](config_data, split, fields)
    for field in (observe, *fields):
        _known('config.data.observe' if field == observe else 'the field', field, source.fields)
    return _leave_out(source, config_data.leave_out) if config_data.leave_out and split == 'train' else source


def declared(config_data):
    """A source like the one that `load` gives, without its data where those lie outside the package -> Source.

    It has the fields, and rows of zeros, that a set of images with labels would have: enough to describe or compile."""
    if config_data.source not in ('tfds', 'folder'):
        return load(config_data)
    fields = {'image': image_field(config_data.resolution, config_data.channels), 'label': label_field(10)}

    def rows(indices):
        return {name: np.zeros((len(indices), *field.shape), field.dtype) for name, field in fields.items()}

    return Source(config_data.name or config_data.source, fields, 2**20, rows, in_memory=True)


def _leave_out(source, labels):
    """The source without the examples of some labels."""
    if 'label' not in source.fields:
        raise ConfigError(f'config.data.leave_out={tuple(labels)}: {source.name} has no labels: leave it empty')
    every = np.concatenate(
        [
            source.rows(np.arange(first, min(first + 1024, len(source))))['label']
            for first in range(0, len(source), 1024)
        ]
    )
    unknown = sorted({*labels} - {*every.tolist()})
    if unknown:
        raise ConfigError(f'config.data.leave_out has {unknown[0]}: the labels are 0 to {every.max()}')
    words = ', '.join(map(str, labels))
    return subset(source, np.flatnonzero(~np.isin(every, labels)), f'{source.name} without {words}')


def _digits(config, split, fields):
    return digits(config.resolution, config.channels, split)


def _toy(config, split, fields):
    return toy(config.name, split)


def _scenes(config, split, fields):
    asked = dict.fromkeys((config.observe, 'label', *fields))  # in order, each once
    return scenes(config.resolution, config.channels, split, tuple(asked))


def _tfds(config, split, fields):
    return tfds(config.name, config.dir, config.resolution, config.channels, split)


def _folder(config, split, fields):
    return folder(config.dir, config.resolution, config.channels, split)


SOURCES = {'digits': _digits, 'toy': _toy, 'scenes': _scenes, 'tfds': _tfds, 'folder': _folder}


def _known(what, name, known):
    """Raises ConfigError where a name is not among those known, with the nearest one."""
    if name in known:
        return
    raise ConfigError(f'{what}={name} is not known{meant(name, known)}: choose from {", ".join(known)}')
