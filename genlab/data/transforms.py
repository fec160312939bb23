"""Transforms a batch on the device, inside the jitted step: range, flip, crop, jitter, binarisation, dequantisation.

Each transform is a pure function of one example and a key, so the result is independent of the rest of the batch.
Images are float32 [H, W, C]; "levels" are the values 0..255 of uint8 images.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genlab.data.source import Field, Source
from genlab.errors import ConfigError

# Folded into an example's key: one stream of noise per transform.
FLIP, CROP, BINARISE, DEQUANTISE, JITTER, UNPAIRED = range(6)
DIRECTED = ('caption', 'factors')  # fields that name left and right, which a flip does not update
PLACED = ('caption', 'factors', 'boxes')  # fields that hold positions: a crop would invalidate them


def to_range(levels: jax.Array, low: float = 0.0, high: float = 255.0) -> jax.Array:
    """Rescales levels to [-1, 1]: v / 127.5 - 1 for 8-bit images.

    Args:
        levels: numbers in [low, high], of any shape and type.
        low: the level that becomes -1.
        high: the level that becomes 1.

    Returns:
        float32, the same shape.
    """
    return (levels.astype(jnp.float32) - low) / ((high - low) / 2) - 1


def to_uint8(images: jax.Array) -> jax.Array:
    """Converts floats in [-1, 1] -> uint8 0..255, rounded to the nearest level; values outside are clipped.

    to_uint8(to_range(v)) == v for every level v.
    """
    return jnp.clip(jnp.round((images.astype(jnp.float32) + 1) * 127.5), 0, 255).astype(jnp.uint8)


def flip_if(flipped: jax.Array, image: jax.Array) -> jax.Array:
    """Mirrors [H, W, C] left to right if the boolean scalar `flipped` is true."""
    return jnp.where(flipped, image[:, ::-1], image)


def flip_boxes_if(flipped: jax.Array, boxes: jax.Array) -> jax.Array:
    """Mirrors boxes [M, 4], (x0, y0, x1, y1) in [0, 1], if `flipped`; absent boxes (all zeros) stay zeros."""
    mirrored = jnp.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    present = jnp.any(boxes != 0, axis=1, keepdims=True)
    return jnp.where(jnp.logical_and(flipped, present), mirrored, boxes)


def crop(image: jax.Array, key: jax.Array, padding: int) -> jax.Array:
    """Pads an image by reflection and crops it to its size at a random position.

    Args:
        image: [H, W, C].
        key: key of the position.
        padding: pixels on each side.

    Returns:
        [H, W, C].
    """
    around = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode='reflect')
    down, right = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(around, (down, right, 0), image.shape)


def jitter(image: jax.Array, key: jax.Array, more: int, smooth: bool) -> jax.Array:
    """Enlarges an image and crops it to its size at a random position (Isola et al. 2017, appendix 6.2).

    Args:
        image: [H, W, C], levels or numbers of classes.
        key: key of the position.
        more: pixels by which each side is enlarged.
        smooth: whether to interpolate bilinearly, rounded to levels; else the nearest pixel is taken.

    Returns:
        [H, W, C] of the same type.
    """
    height, width, channels = image.shape
    larger = (height + more, width + more, channels)
    enlarged = jax.image.resize(image.astype(jnp.float32), larger, 'bilinear' if smooth else 'nearest')
    down, right = jax.random.randint(key, (2,), 0, more + 1)
    return jnp.round(jax.lax.dynamic_slice(enlarged, (down, right, 0), image.shape)).astype(image.dtype)


def binarise(levels: jax.Array, key: jax.Array) -> jax.Array:
    """Draws -1 or 1 with P(1) = level / 255, resampled on each call (Salakhutdinov & Murray 2008)."""
    on = jax.random.bernoulli(key, levels.astype(jnp.float32) / 255)
    return jnp.where(on, 1.0, -1.0)


def dequantise(levels: jax.Array, key: jax.Array) -> jax.Array:
    """Adds uniform noise u in [0, 1) to levels: v -> (v + u) / 128 - 1 in [-1, 1) (Theis et al. 2016, section 3.1).

    A density p over these values bounds the probability of an image of D values: log P >= log p - D log 128, in nats.
    """
    noise = jax.random.uniform(key, levels.shape)
    return jnp.minimum((levels.astype(jnp.float32) + noise) / 128 - 1, 1 - 2.0**-24)  # v + u rounds up to 256


def is_image(field: Field) -> bool:
    """Returns whether a field has 8-bit images, uint8 [H, W, C] in 0..255; a map of classes has a smaller `high`."""
    return is_map(field) and field.high == 255


def is_map(field: Field) -> bool:
    """Returns whether a field is a grid of pixels, transformed together with the image: uint8 [H, W, C]."""
    return len(field.shape) == 3 and field.dtype == np.uint8


def prepare_batch(
    config_data: ConfigDict, source: Source, train: bool = True
) -> Callable[[Mapping[str, jax.Array], jax.Array], dict[str, jax.Array]]:
    """Returns the function that prepares a batch in the jitted step.

    It adds `x` [B, ...]: the observed field, float32 rescaled to [-1, 1] if it is uint8. Other fields are unchanged:
    floats are float32, and integers, such as codes, int32. The config may binarise `x` (-1 or 1) or dequantise it ([-1,
    1)), at test time too. Flips, crops and jitter move all fields of pixels and boxes together, so that pairs stay
    aligned. A second, unpaired domain moves independently.
    8-bit images become float32 in [-1, 1]; maps of classes and integers become int32; other floats are unchanged.

    Args:
        config_data: reads `observe`, `flip`, `crop_padding`, `jitter`, `binarise` and `dequantise`.
        source: declares the fields of the batch.
        train: whether to flip, crop and jitter.

    Returns:
        Function (batch {field: [B, ...]}, keys [B] of typed JAX keys) -> batch {field: [B, ...]} with `x`.
    """
    _validate(config_data, source)
    moves = Moves(config_data.flip, config_data.crop_padding, config_data.jitter) if train else Moves()
    observe, observed = config_data.observe, source.fields[config_data.observe]
    apart = source.domains[1].fields if source.domains else {}

    def one(example: Mapping[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        other = {name: array for name, array in example.items() if name in apart}
        moved = _move(example, source.fields, key, moves)
        moved |= _move(other, source.fields, jax.random.fold_in(key, UNPAIRED), moves)
        out = {name: _ready(array, source.fields.get(name)) for name, array in moved.items()}
        return out | {'x': _observed(moved[observe], observed, key, config_data.binarise, config_data.dequantise)}

    return jax.vmap(one)


class Moves(NamedTuple):
    """The random moves of training images."""

    flip: bool = False  # whether to mirror with probability 1/2
    padding: int = 0  # pixels of reflected border for crops; 0 turns them off
    jitter: int = 0  # pixels by which images are enlarged before they are cropped; 0 turns it off


def _move(
    example: Mapping[str, jax.Array], fields: Mapping[str, Field], key: jax.Array, moves: Moves
) -> dict[str, jax.Array]:
    """Moves all pixel fields of one example in the same way.

    Args:
        example: {field: [...]}.
        fields: the declarations.
        key: key of the example.
        moves: which ones.
    """
    flipped = jax.random.bernoulli(jax.random.fold_in(key, FLIP)) if moves.flip else None
    moved = dict(example)
    for name, array in example.items():
        if flipped is not None and name == 'boxes':
            moved[name] = flip_boxes_if(flipped, array)
        if name not in fields or not is_map(fields[name]):
            continue
        if flipped is not None:
            array = flip_if(flipped, array)
        if moves.jitter:
            array = jitter(array, jax.random.fold_in(key, JITTER), moves.jitter, is_image(fields[name]))
        moved[name] = crop(array, jax.random.fold_in(key, CROP), moves.padding) if moves.padding else array
    return moved


def _ready(array: jax.Array, field: Field | None) -> jax.Array:
    """Converts a field for the objectives: images in [-1, 1], integers int32, floats float32."""
    if field is not None and is_image(field):
        return to_range(array)
    return array.astype(jnp.float32 if jnp.issubdtype(array.dtype, jnp.floating) else jnp.int32)


def _observed(array: jax.Array, field: Field, key: jax.Array, binary: bool, continuous: bool) -> jax.Array:
    """Converts the observed field of one example to the model's input: int32 for integers without pixels, else float32.

    Args:
        array: the field.
        field: its declaration.
        key: key of the example.
        binary: whether to binarise.
        continuous: whether to dequantise.
    """
    if not is_map(field):
        return _ready(array, None)
    if binary:
        return binarise(array, jax.random.fold_in(key, BINARISE))
    if continuous:
        return dequantise(array, jax.random.fold_in(key, DEQUANTISE))
    return to_range(array, field.low, field.high)


def _validate(config_data: ConfigDict, source: Source) -> None:
    """Raises ConfigError if the source's fields do not allow an option of the config."""
    observe = config_data.observe
    active = [name for name in ('flip', 'crop_padding', 'jitter', 'binarise', 'dequantise') if config_data[name]]
    if observe not in source.fields:
        raise ConfigError(f'config.data.observe={observe}: {source.name} has {", ".join(source.fields)}')
    if active and not is_map(source.fields[observe]):
        raise ConfigError(f'config.data.{active[0]} is for images and {observe} is none: turn it off')
    if 'binarise' in active and 'dequantise' in active:
        raise ConfigError('config.data.binarise and config.data.dequantise exclude each other: turn one off')
    if not is_image(source.fields[observe]) and {'binarise', 'dequantise'} & set(active):
        raise ConfigError(f'config.data.{active[-1]} needs 8-bit images and {observe} is a map of classes: turn it off')
    if config_data.jitter < 0:
        raise ConfigError(f'config.data.jitter={config_data.jitter}: give a number of pixels, 0 to turn it off')
    for option, untrue in (('flip', DIRECTED), ('crop_padding', PLACED), ('jitter', PLACED)):
        broken = [name for name in untrue if name in source.fields]
        if option in active and broken:
            raise ConfigError(f'config.data.{option} would make the field {broken[0]} untrue: turn it off')
