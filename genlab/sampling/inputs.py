"""Reads the files that a user gives as conditions of samples: pictures to translate, and maps of classes."""

import pathlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from genlab.conditioning import Conditions, Given
from genlab.data import images
from genlab.data.source import Field, Source
from genlab.data.sources.walk import ENDINGS, walk
from genlab.data.transforms import is_image, is_map, to_range
from genlab.errors import ConfigError


def read(conditions: Conditions, source: Source, path: str, resolution: int = 0) -> Given:
    """Reads a picture, or all pictures of a folder, as the field of pixels that a model is conditioned on.

    Args:
      conditions: of the model.
      source: declares the field.
      path: a file or a folder.
      resolution: pixels per side that pictures are brought to; 0: those of the field. A network of convolutions alone
        takes other sizes than those of its training.

    Returns:
      The field: float32 [F, R, R, C] in [-1, 1] of images, int32 [F, R, R, 1] of maps of classes; and the names.

    Raises:
      ConfigError: the model takes no picture, or a file cannot be read.
    """
    fields = {name: source.fields[name] for name in conditions.fields if is_map(source.fields[name])}
    if len(fields) != 1:
        raise ConfigError(f'--input={path}: this model takes no picture, or more than one: leave it out')
    ((name, field),) = fields.items()
    files = _files(path)
    rows = np.stack([_picture(file, field, resolution or field.shape[0]) for file in files])
    rows = np.asarray(to_range(jnp.asarray(rows))) if is_image(field) else rows.astype(np.int32)
    return Given(fields={name: rows}, names=_names(files))


def _files(path: str) -> list[pathlib.Path]:
    """Returns the file of a path, or the pictures in a folder, sorted."""
    place = pathlib.Path(path).expanduser()
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ConfigError(f'--input={path}: there is no such file or folder')
    found = [place / file for file in walk(place)[0]]
    if not found:
        raise ConfigError(f'--input={path}: there are no pictures in it: put {", ".join(ENDINGS)} files there')
    return sorted(found)


def _names(files: Sequence[pathlib.Path]) -> tuple[str, ...]:
    """Returns a name for each file: its own without the ending, with a number before it where names repeat."""
    stems = [file.stem for file in files]
    if len({stem.lower() for stem in stems}) == len(stems):
        return tuple(stems)
    return tuple(f'{number:05d}-{stem}' for number, stem in enumerate(stems))


def _picture(file: pathlib.Path, field: Field, resolution: int) -> np.ndarray:
    """Reads a picture as uint8 [R, R, C], cropped to its central square, or the classes of a map of classes."""
    try:
        if is_image(field):
            return images.decode(file.read_bytes(), resolution, field.shape[2])
        classes = images.class_numbers(file.read_bytes(), resolution)
    except Exception as error:  # Pillow raises errors of many types
        raise ConfigError(f'--input: {file} cannot be read: {images.refusal(error)}') from None
    if classes.max() > field.high:
        raise ConfigError(
            f'--input: {file} has the value {classes.max()}: values are classes from {field.low:g} to {field.high:g}'
        )
    return classes
