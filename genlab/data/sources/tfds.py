"""Reads image sets of TensorFlow Datasets from ArrayRecord files without TensorFlow."""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from genlab.data import fingerprint
from genlab.data.cache import cached
from genlab.data.images import decode
from genlab.data.source import Source, declaration, from_arrays, image_field, label_field
from genlab.data.sources.decoding import decode_all, fits
from genlab.errors import ConfigError, UserError


def tfds(name: str, folder: str = '', resolution: int = 32, channels: int = 3, split: str = 'train') -> Source:
    """Returns a source of a TFDS set. Images are cropped to the central square and resized.

    Decoded sets up to 2 GiB are kept in memory and cached on disk; larger sets are decoded when read.

    Args:
        name: the TFDS name, e.g. mnist, cifar10 or celeb_a/1.0.0.
        folder: the data_dir of TFDS; '' takes the default of TFDS.
        resolution: R, pixels per side.
        channels: C, 1 or 3.
        split: a TFDS split, e.g. train, test or train[:90%].

    Returns:
        A source with `image` uint8 [R, R, C], and `label` int32 if the set has labels.
    """
    records, info = _open(name, folder, split)
    picture, classes = _features(info.features, name)
    fields = {'image': image_field(resolution, channels)}
    if classes is not None:
        fields['label'] = label_field(classes.num_classes)

    def rows(indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        read = records.__getitems__([int(index) for index in indices])
        images = np.empty((len(read), resolution, resolution, channels), np.uint8)
        for image, record in zip(images, read):
            image[:] = decode(record[picture], resolution, channels)
        labels = {'label': np.array([record['label'] for record in read], np.int32)} if classes is not None else {}
        return {'image': images} | labels

    known: dict[str, Any] = {'classes': tuple(classes.names) if classes is not None else ()}
    title = f'{info.full_name}/{split}'
    identity = [title, len(records), str(info.splits.total_num_examples), _checksums(info)]
    known['fingerprint'] = lambda: fingerprint.Fingerprint(fingerprint.of_values(['tfds', *identity]))
    if not fits(len(records), resolution, channels):
        return Source(name=title, fields=fields, length=len(records), rows=rows, in_memory=False, **known)
    key = [title, len(records), str(info.splits.total_num_examples), resolution, channels, _checksums(info)]
    arrays = cached(title, key, lambda: decode_all(title, len(records), lambda start, stop: rows(range(start, stop))))
    return from_arrays(title, arrays, fields, **known)


def header(name: str, folder: str = '', resolution: int = 32, channels: int = 3, split: str = 'train') -> Source | None:
    """Returns the source of `tfds` with zeros for its rows, as it reads no records; None if the set is unknown here.

    TFDS describes the sets that it has builders for, even if they are not prepared.
    """
    try:
        info = find(name, folder)[0].info
    except UserError:
        return None
    _, classes = _features(info.features, name)
    fields = {'image': image_field(resolution, channels)}
    if classes is not None:
        fields['label'] = label_field(classes.num_classes)
    length = info.splits[split].num_examples if split in info.splits else 0
    names = tuple(classes.names) if classes is not None else ()
    return declaration(f'{info.full_name}/{split}', fields, length or 2**20, {}, classes=names)


def command(name: str, folder: str) -> str:
    """Returns the command that downloads a set and writes it as ArrayRecord."""
    return f'python -m genlab.data.prepare {name}' + (f' --dir {folder}' if folder else '')


def find(name: str, folder: str) -> tuple[Any, str]:
    """Returns (builder, format); finds sets without builder code by their files.

    The format is the file format, such as array_record or tfrecord; '' if the set is not prepared.
    """
    import tensorflow_datasets

    try:
        builder = tensorflow_datasets.builder(name, **({'data_dir': folder} if folder else {}))
    except tensorflow_datasets.core.DatasetNotFoundError:
        near = difflib.get_close_matches(name, tensorflow_datasets.list_builders(with_community_datasets=False), 1)
        meant = f'; did you mean {near[0]}?' if near else ''
        where = f' and no such folder in {folder}' if folder else ''
        raise ConfigError(f'config.data.name={name} is not a set that TFDS knows{where}{meant}') from None
    except ImportError as error:
        raise UserError(
            f'TFDS cannot describe {name} without a package that is missing ({error.name}): '
            'pip install "genlab[prepare]"'
        ) from error
    there = (builder.data_path / 'dataset_info.json').exists()
    return builder, builder.info.file_format.value if there else ''


def _open(name: str, folder: str, split: str) -> tuple[Any, Any]:
    """Opens a set; raises a UserError that says what to do if it is not prepared.

    Args:
        name: the TFDS name.
        folder: the data_dir; '' takes the default.
        split: a TFDS split.

    Returns:
        (the records with undecoded images, the DatasetInfo).
    """
    from tensorflow_datasets import decode as decoders

    builder, form = find(name, folder)
    if not form:
        raise UserError(f'there is no {name} in {builder.data_dir}: run `{command(name, folder)}`')
    if form != 'array_record':
        raise UserError(
            f'{name} in {builder.data_dir} is in {form} format, which needs TensorFlow: write it as '
            f'ArrayRecord into another folder, run `{command(name, "NEW_FOLDER")}` and set '
            'config.data.dir=NEW_FOLDER'
        )
    picture, _ = _features(builder.info.features, name)
    try:
        return builder.as_data_source(split, decoders={picture: decoders.SkipDecoding()}), builder.info
    except (ValueError, KeyError) as error:
        raise ConfigError(f'{name} has no split {split}: it has {", ".join(builder.info.splits)}') from error


def _features(features: Any, name: str) -> tuple[str, Any]:
    """Returns (name of the image feature, the label feature or None)."""
    from tensorflow_datasets.core.features import ClassLabel, Image

    pictures = [key for key, feature in features.items() if type(feature) is Image]
    if not pictures:
        raise ConfigError(f'config.data.name={name}: the set has no images, only {", ".join(features)}')
    label = dict(features.items()).get('label')
    return 'image' if 'image' in pictures else pictures[0], label if isinstance(label, ClassLabel) else None


def _checksums(info: Any) -> dict[str, list[Any]]:
    """Identifies the prepared files of a set: {split: [bytes, lengths of its shards]}."""
    return {name: [split.num_bytes, list(split.shard_lengths)] for name, split in info.splits.items()}
