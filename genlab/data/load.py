"""Builds a source from `config.data`."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from genlab.data.source import UNKNOWN_LABEL, Source, declaration, image_field, only, some_of, subset, unpaired
from genlab.data.sources import codes as encoded
from genlab.data.sources import folder as folders
from genlab.data.sources import pairs as paired
from genlab.data.sources import tfds as tfds_sets
from genlab.data.sources.bars import bars
from genlab.data.sources.digits import digits
from genlab.data.sources.faithful import faithful
from genlab.data.sources.scenes.scenes import scenes
from genlab.data.sources.sequences import sequences
from genlab.data.sources.speech import speech as spoken
from genlab.data.sources.stacked import CHANNELS, stacked
from genlab.data.sources.toy import toy
from genlab.errors import ConfigError, meant

SPLITS = ('train', 'test')
# Fields that only some sources read, and these sources.
READERS = {
    'dir': ('folder', 'tfds', 'pairs', 'stacked', 'codes', 'sequences', 'speech'),
    'name': ('toy', 'tfds', 'pairs', 'stacked', 'sequences', 'speech'),
    'stacked': ('stacked',),
    'shapes': ('scenes',),
    'hold_out': ('scenes',),
    'images_dir': ('speech',),
    'speaker': ('speech',),
    'bands': ('speech',),
}
# Fields that do not change what `load` returns.
BATCHING = ('batch_size', 'resident', 'workers', 'flip', 'binarise', 'dequantise', 'crop_padding', 'jitter')


def defaults(**changes: Any) -> ConfigDict:
    """Returns `config.data` with every field that `load`, `prepare_batch` and the loop read, updated by `changes`."""
    known = ConfigDict(
        {
            # The source: digits, toy, faithful (Old Faithful), bars, scenes, tfds, folder, pairs, stacked (three grey
            # images as channels), sequences, speech with images, or codes of the tokenizer of another run.
            'source': 'digits',
            # The source of the images that are stacked, e.g. digits.
            'stacked': '',
            # The toy density (ring, grid, moons, roll2d, roll3d, curve), the TFDS set (mnist, cifar10, ...), which
            # speech is paired with too ('' is the digits of scikit-learn), the sequences (earthquakes, letters,
            # digits, csv), or the domains of pairs, input first ('' is 'A,B').
            'name': '',
            # The folder of images, the data_dir of TFDS ('' is its default), the run of the tokenizer of codes, the
            # table of sequences, or the folder of WAV files of speech ('' is synthetic speech).
            'dir': '',
            # Pixels per side; images are cropped to the central square and resized (bilinear, antialiased). Codes have
            # the resolution and channels of their run.
            'resolution': 32,
            # 1 or 3; grey is repeated, colour is converted to luma.
            'channels': 1,
            # Examples per global batch.
            'batch_size': 64,
            # The modelled field, called `x` after `prepare_batch`.
            'observe': 'image',
            # Fields needed in addition to the observed one and `label`, e.g. ('caption',).
            'fields': (),
            # A field of training batches that is not paired with the rest, e.g. 'style' of scenes or 'input' of pairs.
            # It has its own order, flips and crops. '': all fields are paired.
            'unpaired': '',
            # Keep the whole set on the accelerator and send only `Batches.numbered`.
            'resident': False,
            # Processes that read ahead if the set is not in memory; 0 reads in threads.
            'workers': 0,
            # Mirror training images left to right with probability 1/2.
            'flip': False,
            # Draw pixels in {-1, 1} with the intensity as the probability.
            'binarise': False,
            # Add uniform noise of one level, for densities of continuous values.
            'dequantise': False,
            # Pixels of reflected border that a random training crop may reach into; 0 turns crops off.
            'crop_padding': 0,
            # Pixels per side by which training images are enlarged before a random crop to the resolution, e.g. 30 for
            # 286 to 256 (pix2pix); 0 turns it off.
            'jitter': 0,
            # Labels to exclude from the training set, e.g. (3,), for anomaly detection.
            'leave_out': (),
            # Number of training examples to keep, for learning from few images; 0: all. They are drawn once. Of codes
            # only these are encoded.
            'limit': 0,
            # Shapes per scene, 1 to 4; 0: any of these numbers.
            'shapes': 0,
            # Keep some combinations of kind, colour and place out of the training split of scenes.
            'hold_out': False,
            # The data_dir of the TFDS set that speech is paired with; '' is the default of TFDS.
            'images_dir': '',
            # The speaker who is the test split of speech, and absent from training; '': all speak in both.
            'speaker': '',
            # Mel bands of speech, e.g. 80; 0: 40.
            'bands': 0,
        }
    )
    for name in changes:
        _known('the field of config.data', name, known)
    known.update(changes)
    return known


def load(config_data: ConfigDict, split: str = 'train', fields: Sequence[str] = ()) -> Source:
    """Returns the source that `config_data` selects.

    Args:
        config_data: the fields that `defaults` lists.
        split: 'train' or 'test'.
        fields: fields needed in addition to the observed one, `label` and `config_data.fields`. A source with
            `on_demand` fields adds them; other sources always return all their fields.

    Returns:
        A source whose fields include every requested one.
    """
    _check(config_data, split)
    fields = _requested(config_data, fields)
    if config_data.unpaired and split == 'train':
        return _unpaired(config_data, fields, load)
    source = _with_fields(SOURCES[config_data.source](config_data, split, fields), config_data.observe, fields)
    if split == 'train':
        source = _leave_out(source, config_data.leave_out) if config_data.leave_out else source
        source = _limited(source, config_data.limit) if config_data.limit else source
    return source


def declared(config_data: ConfigDict) -> Source:
    """Returns a source with the fields, class names and vocabulary of `load(config_data)`, without decoding pictures.

    A folder is listed, and a tfds set described. Their images are zeros, which suffices to describe or compile a model.
    If the data are missing, images and labels of an unknown number of classes replace them.
    """
    _check(config_data, 'train')
    if config_data.source not in HEADERS:
        return load(config_data)
    if config_data.unpaired:
        return _unpaired(config_data, _requested(config_data), declared)
    source = HEADERS[config_data.source](config_data)
    if source is None:
        fields = {'image': image_field(config_data.resolution, config_data.channels), 'label': UNKNOWN_LABEL}
        return declaration(config_data.name or config_data.source, fields, 2**20, {})
    return _with_fields(source, config_data.observe, config_data.fields)


def _requested(config_data: ConfigDict, fields: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the fields that are needed in addition to the observed one and `label`."""
    return (*config_data.fields, *fields, *([config_data.unpaired] if config_data.unpaired else []))


def _unpaired(config_data: ConfigDict, fields: Sequence[str], how: Callable[[ConfigDict], Source]) -> Source:
    """Returns the training set with the unpaired field as a separate domain.

    Args:
        config_data: with `unpaired`.
        fields: result of `_requested`.
        how: `load` or `declared`.
    """
    name = config_data.unpaired
    if name == config_data.observe:
        raise ConfigError(
            f'config.data.unpaired={name!r} is the modelled field config.data.observe: name the field of its '
            "counterparts, or '' for pairs"
        )
    rest, other = ConfigDict(config_data), ConfigDict(config_data)
    rest.update(unpaired='', fields=tuple(field for field in fields if field != name))
    other.update(unpaired='', observe='', fields=(name,))
    first, second = how(rest), how(other)
    return unpaired(only(first, [field for field in first.fields if field != name]), only(second, [name]))


def sampled(config_data: ConfigDict) -> ConfigDict:
    """Returns the `config.data` of what samples of a model look like: the images that codes stand for, else its own."""
    if config_data.source != 'codes':
        return config_data
    return sampled(encoded.images(config_data.dir, config_data.fields))


def compared(config_data: ConfigDict) -> ConfigDict:
    """Returns the `config.data` of what samples are compared with: `sampled`, with all examples of the training set."""
    found = sampled(config_data).copy_and_resolve_references()
    found.update(leave_out=(), limit=0)
    return found


def _check(config_data: ConfigDict, split: str) -> None:
    """Raises ConfigError if `config_data` selects no source, or has a field that its source does not read."""
    name = config_data.source
    _known('config.data.source', name, SOURCES)
    _known('split', split, SPLITS)
    for field, readers in READERS.items():
        if config_data[field] and name not in readers:
            raise ConfigError(
                f'config.data.{field}={config_data[field]!r} is not read by config.data.source={name!r}: set '
                f'config.data.source to {" or ".join(readers)}, or leave it at its default'
            )
    if config_data.channels not in (1, 3):
        raise ConfigError(f'config.data.channels={config_data.channels}: choose 1 (grey) or 3 (colour)')
    if name == 'stacked' and config_data.channels != CHANNELS:
        raise ConfigError(
            f"config.data.channels={config_data.channels}: config.data.source='stacked' makes one channel of each of "
            f'{CHANNELS} images: set config.data.channels={CHANNELS}'
        )
    if config_data.resolution < 1:
        raise ConfigError(f'config.data.resolution={config_data.resolution}: choose at least 1')


def _with_fields(source: Source, observe: str, fields: Sequence[str]) -> Source:
    """Returns the source; raises ConfigError if it lacks the observed field or another requested one."""
    for field in filter(None, (observe, *fields)):
        _known('config.data.observe' if field == observe else 'the field', field, source.fields)
    return source


def _leave_out(source: Source, labels: Sequence[int]) -> Source:
    """Returns the source without the examples of the given labels."""
    if 'label' not in source.fields:
        raise ConfigError(f'config.data.leave_out={tuple(labels)}: {source.name} has no labels: leave it empty')
    every = source.labels
    if every is None:
        starts = range(0, len(source), 1024)
        blocks = [np.arange(start, min(start + 1024, len(source))) for start in starts]
        every = np.concatenate([source.rows(block)['label'] for block in blocks])
    unknown = sorted({*labels} - {*every.tolist()})
    if unknown:
        raise ConfigError(f'config.data.leave_out has {unknown[0]}: the labels are 0 to {every.max()}')
    words = ', '.join(map(str, labels))
    return subset(source, np.flatnonzero(~np.isin(every, labels)), f'{source.name} without {words}')


def _limited(source: Source, limit: int) -> Source:
    """Returns the source with `limit` of its examples. A smaller limit keeps a subset of a larger one."""
    return subset(source, some_of(source, limit), f'{limit} examples of {source.name}')


def _digits(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    return digits(config.resolution, config.channels, split)


def _bars(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    return bars(config.resolution, config.channels, split)


def _toy(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    return toy(config.name, split)


def _faithful(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    return faithful()


def _scenes(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    requested = dict.fromkeys(filter(None, (config.observe, 'label', *fields)))  # in order, without repeats
    return scenes(config.resolution, config.channels, split, tuple(requested), config.shapes, config.hold_out)


def _tfds(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    return tfds_sets.tfds(config.name, config.dir, config.resolution, config.channels, split)


def _folder(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    return folders.folder(config.dir, config.resolution, config.channels, split)


def _pairs(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    place = config.dir, config.name, config.resolution, config.channels
    return paired.pairs(*place, split, _sides(config, fields), not config.unpaired)


def _sides(config: ConfigDict, fields: Sequence[str]) -> tuple[str, ...]:
    """Returns the requested fields of pairs."""
    for field in fields:
        _known('the field', field, paired.FIELDS)
    return tuple(field for field in paired.FIELDS if field in (config.observe, *fields)) or paired.FIELDS


def _stacked(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    return stacked(load(_single(config), split))


def _single(config: ConfigDict) -> ConfigDict:
    """Returns the part of a config for the images that are stacked."""
    single = config.copy_and_resolve_references()
    single.update(source=config.stacked, stacked='', channels=1, limit=0)
    return single


def _sequences(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    return sequences(config.name, config.dir, config.resolution, split)


def _speech(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    return spoken.speech(load(_pictured(config), split), config.dir, split, config.speaker, config.bands)


def _pictured(config: ConfigDict) -> ConfigDict:
    """Returns the part of a config for the images that speech is paired with."""
    return defaults(
        source='tfds' if config.name else 'digits',
        name=config.name,
        dir=config.images_dir,
        resolution=config.resolution,
        channels=config.channels,
    )


def _codes(config: ConfigDict, split: str, fields: Sequence[str]) -> Source:
    # Only what is kept is encoded. `load` counts again: where labels are left out first, others are kept.
    limit = config.limit if split == 'train' and not config.leave_out else 0
    return encoded.codes(config.dir, split, tuple(fields), limit)


SOURCES: dict[str, Callable[[ConfigDict, str, Sequence[str]], Source]] = {
    'digits': _digits,
    'toy': _toy,
    'faithful': _faithful,
    'bars': _bars,
    'scenes': _scenes,
    'tfds': _tfds,
    'folder': _folder,
    'pairs': _pairs,
    'stacked': _stacked,
    'sequences': _sequences,
    'speech': _speech,
    'codes': _codes,
}
# Sources of files and codes -> their declaration for training, without the pictures; None if the files are missing.
HEADERS: dict[str, Callable[[ConfigDict], Source | None]] = {
    'tfds': lambda config: tfds_sets.header(config.name, config.dir, config.resolution, config.channels),
    'folder': lambda config: folders.header(config.dir, config.resolution, config.channels),
    'pairs': lambda config: paired.header(
        config.dir, config.name, config.resolution, config.channels, _sides(config, config.fields)
    ),
    'stacked': lambda config: stacked(declared(_single(config))),
    'speech': lambda config: spoken.header(declared(_pictured(config)), config.dir, config.speaker, config.bands),
    'codes': lambda config: encoded.header(config.dir, tuple(config.fields)),
}


def _known(where: str, name: str, known: Collection[str]) -> None:
    """Raises ConfigError if a name is not among the known ones; the message suggests the nearest name."""
    if name not in known:
        raise ConfigError(f'{where}={name!r}: choose one of {", ".join(known)}{meant(name, known)}')
