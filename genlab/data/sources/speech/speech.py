"""Pairs spoken words with images of the same class: synthetic digits, or a folder of recordings.

image          uint8 [R, R, C]: an image of the class that is spoken
label          int32: the class, as the images number it
speech         float32 [T, bands]: log-mel frames (`genlab.data.audio`), zeros after the end
speech_length  int32: frames before the end, 1 to T
speaker        int32: in alphabetical order of a folder, or of `synthesis.VOICES`
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genlab.data import audio, fingerprint
from genlab.data.cache import cached
from genlab.data.source import UNKNOWN_LABEL, Field, Source, declaration
from genlab.data.sources.decoding import decode_all
from genlab.data.sources.messages import printable
from genlab.data.sources.speech import recordings, synthesis
from genlab.errors import ConfigError, choose

CLIPS = {'train': (0, 2_000), 'test': (2**32, 500)}  # first index and number: the ranges are disjoint
SEED = 2026  # seed of the pairing
BLOCK = 1024  # examples whose labels are read at a time


class Spoken(NamedTuple):
    """What is known of N clips without their sound."""

    title: str
    classes: Sequence[str]  # classes of each clip
    speakers: np.ndarray  # int32 [N]


def speech(images: Source, place: str = '', split: str = 'train', speaker: str = '', bands: int = 0) -> Source:
    """Returns a source of clips, each with an image of its class.

    The test split has every clip once. The training split has every clip equally often, as often as it takes to show
    about all images: a clip comes with another image each time. See `paired`.

    Args:
        images: with labels and names of classes. They number the classes of the clips.
        place: a folder, see `recordings`; '': synthetic digits, which need classes 0 to 9.
        split: 'train' or 'test'.
        speaker: who speaks the whole test split, and is absent from training; '': all speak in both splits.
        bands: number of bands of the features; 0: `audio.BANDS`.
    """
    bands = bands or audio.BANDS
    fields = _fields(images, bands)
    if place:
        found = recordings.read(recordings.find(place, split, speaker), split, bands)
        known = _recorded(found.listing, split)
        frames, lengths, digest = found.speech, found.lengths, found.digest
    else:
        known = _synthetic(split, speaker)
        identity = ['synthetic speech', audio.VERSION, synthesis.SEED, *CLIPS[split], speaker, bands, audio.FRAMES]
        made = cached(known.title, identity, lambda: _synthesised(known, split, bands))
        frames, lengths, digest = made['speech'], made['length'], fingerprint.of_values(identity)
    labels = _numbers(known, images)
    count = len(labels) * _repeats(len(labels), len(images), split)
    partners = paired(np.resize(labels, count), _labels(images), images)

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        indices = np.asarray(indices)
        clips = indices % len(labels)
        return {
            'image': images.rows(partners[indices])['image'],
            'label': labels[clips],
            'speech': frames[clips],
            'speech_length': lengths[clips],
            'speaker': known.speakers[clips],
        }

    return Source(
        name=known.title,
        fields=fields,
        length=count,
        rows=rows,
        in_memory=images.in_memory,
        classes=images.classes,
        labels=np.resize(labels, count),
        fingerprint=lambda: fingerprint.Fingerprint(
            fingerprint.of_values(['speech', SEED, digest, bands, fingerprint.of(images).digest])
        ),
    )


def header(images: Source, place: str = '', speaker: str = '', bands: int = 0) -> Source:
    """Returns the training split of `speech` with zeros for images and sound: only names of files are read.

    Args:
        images: as `data.declared` returns them. Classes are unknown if the images are missing.
        place, speaker, bands: as in `speech`. Labels are unknown if the folder is missing.
    """
    fields = _fields(images, bands or audio.BANDS)

    def declare(title: str, count: int, arrays: Mapping[str, np.ndarray], classes: tuple[str, ...]) -> Source:
        lengths = {'speech_length': np.ones(count, np.int32)}  # 0 is not allowed
        return declaration(title, fields, count, {**lengths, **arrays}, classes=classes, labels=arrays.get('label'))

    if place and not Path(place).expanduser().is_dir():
        return declare('speech/train', 2**20, {}, images.classes)
    known = _recorded(recordings.find(place, 'train', speaker), 'train') if place else _synthetic('train', speaker)
    if images.fields['label'] is UNKNOWN_LABEL:
        return declare(known.title, len(known.speakers), {'speaker': known.speakers}, ())
    labels = _numbers(known, images)
    count = len(labels) * _repeats(len(labels), len(images), 'train')
    arrays = {'label': np.resize(labels, count), 'speaker': np.resize(known.speakers, count)}
    return declare(known.title, count, arrays, images.classes)


def paired(labels: np.ndarray, of_images: np.ndarray, images: Source) -> np.ndarray:
    """Returns the index of the image of each example, int64 [N].

    The images of a class are shuffled once. Examples of that class take them in turn, so all are used equally often.

    Args:
        labels: int [N], of the examples.
        of_images: int [M], labels of the images.
        images: for messages.
    """
    chosen = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        places, there = np.flatnonzero(labels == label), np.flatnonzero(of_images == label)
        if not len(there):
            raise ConfigError(f'{images.name} has no image of the class {images.classes[label]}, which is spoken')
        order = np.random.default_rng([SEED, label]).permutation(there)
        chosen[places] = np.resize(order, len(places))
    return chosen


def _repeats(clips: int, images: int, split: str) -> int:
    """Returns how often each clip is an example."""
    return math.ceil(images / clips) if split == 'train' else 1


def _recorded(found: recordings.Listing, split: str) -> Spoken:
    return Spoken(f'speech of {printable(found.root.name)}/{split}', found.classes, found.speakers)


def _synthetic(split: str, speaker: str) -> Spoken:
    """Returns the classes and voices of synthetic clips. Both are equally frequent."""
    names = [*synthesis.VOICES]
    if speaker:
        choose(synthesis.VOICES, speaker, 'config.data.speaker')
        names = [name for name in names if (name == speaker) == (split == 'test')]
    numbers = np.arange(CLIPS[split][1])
    voices = np.array([[*synthesis.VOICES].index(name) for name in names], np.int32)
    digits = len(synthesis.DIGITS)
    return Spoken(
        f'speech/{split}', [str(number % digits) for number in numbers], voices[numbers // digits % len(voices)]
    )


def _synthesised(known: Spoken, split: str, bands: int) -> dict[str, np.ndarray]:
    """Synthesises the clips of a split: {'speech': float32 [N, T, bands], 'length': int32 [N]}."""
    first, count = CLIPS[split]
    digits = np.array(known.classes, int)

    def block(start: int, stop: int) -> dict[str, np.ndarray]:
        part = slice(start, stop)
        clips = synthesis.digits(digits[part], known.speakers[part], first + np.arange(start, stop))
        frames, lengths = zip(*(audio.spoken(clip, audio.RATE, bands) for clip in clips))
        return {'speech': np.stack(frames), 'length': np.array(lengths, np.int32)}

    return decode_all(known.title, count, block)


def _numbers(known: Spoken, images: Source) -> np.ndarray:
    """Returns the number of the class of each clip, int32 [N]."""
    absent = sorted({*known.classes} - {*images.classes})
    if absent:
        raise ConfigError(
            f'{known.title}: the class {absent[0]!r} is spoken, but {images.name} has the classes '
            f'{", ".join(images.classes) or "of no name"}: set config.data.name to a set with images of that class'
        )
    number = {name: n for n, name in enumerate(images.classes)}
    return np.array([number[name] for name in known.classes], np.int32)


def _labels(images: Source) -> np.ndarray:
    """Returns the labels of all images; reads them if they are not known."""
    if images.labels is not None:
        return images.labels
    starts = range(0, len(images), BLOCK)
    return np.concatenate([images.rows(np.arange(n, min(n + BLOCK, len(images))))['label'] for n in starts])


def _fields(images: Source, bands: int) -> dict[str, Field]:
    """Declares the fields; raises ConfigError if the images have no labels, or if there are too few or many bands."""
    if not audio.LIMITS[0] <= bands <= audio.LIMITS[1]:
        raise ConfigError(f'config.data.bands={bands}: choose {" to ".join(map(str, audio.LIMITS))}, or 0 for 40')
    if 'label' not in images.fields:
        raise ConfigError(f'{images.name} has no labels to pair words with images: set config.data.name to another set')
    integers = np.dtype(np.int32)
    return {
        'image': images.fields['image'],
        'label': images.fields['label'],
        'speech': Field((audio.FRAMES, bands), np.dtype(np.float32), -math.inf, math.inf),
        'speech_length': Field((), integers, 1, audio.FRAMES),
        'speaker': Field((), integers, 0, math.inf),  # a folder may grow
    }
