"""Reads the files that a user gives as conditions of samples: pictures, maps of classes, recordings and layouts."""

import pathlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from genlab.conditioning import Conditions, Given
from genlab.data import audio, images, layouts
from genlab.data.source import Field, Source
from genlab.data.sources.walk import EXTENSIONS
from genlab.data.transforms import is_image, is_map, to_range
from genlab.errors import ConfigError


def read(conditions: Conditions, source: Source, path: str = '', boxes: str = '', resolution: int = 0) -> Given:
    """Reads the files that a user gives.

    Args:
      conditions: conditions of the model.
      source: declares the fields.
      path: a picture, a recording (WAV), or a folder of these; '' for none.
      boxes: a file of layouts, see `genlab.data.layouts`; '' for none.
      resolution: pixels per side that pictures are brought to; 0: as the field has. A network of convolutions alone
        takes other sizes than in its training.

    Returns:
      The fields, with a row per file or layout, and their names. Images are float32 [F, R, R, C] in [-1, 1], maps of
      classes int32 [F, R, R, 1].

    Raises:
      ConfigError: the model takes no such file, or a file cannot be read.
    """
    if path and boxes:
        raise ConfigError(f'--input={path} and --boxes={boxes}: give one of them')
    if boxes:
        if not {*layouts.FIELDS} <= {*conditions.fields}:
            raise ConfigError(f'--boxes={boxes}: this model takes no layout: leave it out')
        fields = layouts.read(boxes, source)
        stem, count = pathlib.Path(boxes).stem, len(fields['boxes'])
        return Given(fields=fields, names=(stem,) if count == 1 else tuple(f'{stem}-{i}' for i in range(count)))
    if 'speech' in conditions.fields:
        files = _files(path, ('wav',))
        rows = [audio.features(file, source.fields['speech']) for file in files]
        return Given(fields={name: np.stack([row[name] for row in rows]) for name in rows[0]}, names=_names(files))
    maps = {name: source.fields[name] for name in conditions.fields if is_map(source.fields[name])}
    if len(maps) != 1:
        raise ConfigError(f'--input={path}: this model takes no file, or more than one: leave it out')
    ((name, field),) = maps.items()
    files = _files(path, EXTENSIONS)
    pictures = np.stack([_picture(file, field, resolution or field.shape[0]) for file in files])
    pictures = np.asarray(to_range(jnp.asarray(pictures))) if is_image(field) else pictures.astype(np.int32)
    return Given(fields={name: pictures}, names=_names(files))


def _files(path: str, extensions: Sequence[str]) -> list[pathlib.Path]:
    """Returns the file of a path, or the files with these extensions in a folder and below it, sorted."""
    place = pathlib.Path(path).expanduser()
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ConfigError(f'--input={path}: there is no such file or folder')
    found = sorted(file for file in place.rglob('[!.]*') if file.suffix.lower()[1:] in extensions and file.is_file())
    if (place / 'samples.npz').exists():  # of --mode=sample: their grid is none of them
        found = [file for file in found if file.name != 'grid.png']
    if not found:
        raise ConfigError(f'--input={path}: there is no file to read in it: put {", ".join(extensions)} files there')
    return found


def _names(files: Sequence[pathlib.Path]) -> tuple[str, ...]:
    """Returns a name for each file: its own without the extension, with a number before it where names repeat."""
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
