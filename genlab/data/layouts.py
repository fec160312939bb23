"""Reads layouts that a user writes: JSON files of objects, each with a class and a box."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from genlab.data.source import Source
from genlab.errors import ConfigError, meant

FIELDS = ('boxes', 'box_classes')  # fields of a source or a batch that form a layout
KEYS = ('class', 'box')
EXAMPLE = '[{"class": "circle", "box": [0.1, 0.2, 0.5, 0.6]}]'
LISTED = 40  # classes that an error lists


def read(path: str, source: Source, where: str = '--boxes') -> dict[str, np.ndarray]:
    """Reads the layouts of one or several images.

    The file is a list of objects, or a list of such lists:

        [{"class": "circle", "box": [0.1, 0.2, 0.5, 0.6]}, {"class": 4, "box": [0.5, 0.5, 0.9, 1]}]

    A class is a name of the source or its number. A box is [x0, y0, x1, y1] in units of the image's sides, from the top
    left.

    Args:
        path: path of the file.
        source: declares the fields `boxes` and `box_classes`, and names the classes; `data.declared` suffices.
        where: the flag that gave the path, for errors.

    Returns:
        boxes, float32 [F, M, 4], zeros if absent; and box_classes, int32 [F, M], -1 if absent. F is the number of
        images and M the number of slots of the source.

    Raises:
        ConfigError: the file cannot be read, or an object does not fit; the message names the image and the object.
    """
    if not {*FIELDS} <= {*source.fields}:
        raise ConfigError(f'{where}={path}: {source.name} has no boxes: leave it out')
    layouts = _images(_parsed(path, where), f'{where}={path}')
    slots = source.fields['boxes'].shape[0]
    boxes = np.zeros((len(layouts), slots, 4), np.float32)
    classes = np.full((len(layouts), slots), -1, np.int32)
    for image, objects in enumerate(layouts):
        here = f'{where}={path}: ' + (f'image {image}' if len(layouts) > 1 else 'the image')
        if len(objects) > slots:
            raise ConfigError(f'{here} has {len(objects)} objects: give at most {slots}')
        for number, entry in enumerate(objects):
            this = f'{here}, object {number}'
            if not isinstance(entry, dict) or {*entry} != {*KEYS}:
                raise ConfigError(f'{this}: {_short(entry)} is not an object: write it as in {EXAMPLE}')
            classes[image, number] = _class_number(entry['class'], source, this)
            boxes[image, number] = _box(entry['box'], this)
    return {'boxes': boxes, 'box_classes': classes}


def _parsed(path: str, where: str) -> Any:
    """Returns the content of a JSON file."""
    try:
        return json.loads(pathlib.Path(path).expanduser().read_text('utf-8'))
    except FileNotFoundError:
        raise ConfigError(f'{where}={path}: there is no such file') from None
    except OSError as error:
        raise ConfigError(f'{where}={path}: the file cannot be read: {error.strerror}') from None
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError(f'{where}={path}: the file is not JSON ({error}): write a list such as {EXAMPLE}') from None


def _images(content: Any, where: str) -> list[list]:
    """Returns the objects of each image."""
    if isinstance(content, list) and content:
        if all(isinstance(entry, list) for entry in content):
            return content
        if not any(isinstance(entry, list) for entry in content):
            return [content]
    raise ConfigError(f'{where}: give a list of objects, or a list of such lists for several images: {EXAMPLE}')


def _class_number(name: Any, source: Source, where: str) -> int:
    """Returns the number of a class that is given by its name or number."""
    count = int(source.fields['box_classes'].high) + 1
    names: Sequence[str] = source.classes or [*map(str, range(count))]
    if isinstance(name, str) and name in names:
        return names.index(name)
    if isinstance(name, str) and name.isdecimal():
        name = int(name)
    if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < count:
        return name
    listed = ', '.join(names[:LISTED]) + (', ...' if len(names) > LISTED else '')
    raise ConfigError(f'{where}: there is no class {_short(name)}: choose one of {listed}{meant(name, names)}')


def _box(box: Any, where: str) -> list[float]:
    """Returns a box that lies in the image and has an area."""
    numbers = isinstance(box, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in box)
    if not numbers or len(box) != 4:
        raise ConfigError(f'{where}: box {_short(box)}: give four numbers [x0, y0, x1, y1]')
    if not all(0 <= value <= 1 for value in box):  # false for nan too
        raise ConfigError(f'{where}: box {_short(box)} lies outside of the image: give numbers from 0 to 1')
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ConfigError(f'{where}: box {_short(box)} is empty: give [x0, y0, x1, y1] with x0 < x1 and y0 < y1')
    return box


def _short(value: Any, most: int = 60) -> str:
    """Returns a JSON value as text, shortened."""
    text = json.dumps(value)
    return text if len(text) <= most else f'{text[:most]}...'
