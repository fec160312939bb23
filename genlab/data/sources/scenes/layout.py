"""Draws the content of a scene from its index: counts, kinds, colours, sizes, positions, rotations, background.

The generator is counter-based: splitmix64 of the seed, the index and a counter. So a batch is drawn at once, and scenes
in any order. A scene depends neither on the resolution nor on the other scenes of the batch.

Some combinations of kind, colour and place can be held out of training, to see whether a model composes what it knows.
With the numbers of KINDS and COLOURS and the place 0..8 of `places_of`, it is held out if

    (kind + colour + place) mod 8 < 3.

These are 216 of the 576 combinations. Every pair of a kind, a colour and a place is left in at least five combinations.
"""

from typing import Any

import numpy as np

from genlab.data.sources.scenes.shapes import BACKGROUNDS, COLOURS, KINDS, outlines

SLOTS = 4  # most shapes per scene; the largest comes first
LARGE = 0.16  # a shape of at least this radius is called large
SMALL_RADII = (0.12, 0.145)
LARGE_RADII = {1: (0.26, 0.38), 2: (0.2, 0.28), 3: (0.175, 0.215), 4: (0.165, 0.19)}  # by the number of shapes
SMALL = 0.4  # share of small shapes
TILT = 0.5  # rotations lie in -0.5..0.5 radians, so that a heart is not upside down
MARGIN = 0.015  # free space around every shape
MIDDLE = (0.45, 0.55)  # ends of the middle row and column of the places, in units of the image's side
HELD_OUT = 3  # kinds that are held out for each colour and place
TRIES = 40  # positions drawn per shape; the first free one is used
SLOT_FACTORS = ('present', 'kind', 'colour', 'radius', 'x', 'y', 'rotation')
SCENE_FACTORS = ('background', 'shading', 'direction')
FACTORS = tuple(f'{name}_{slot}' for slot in range(SLOTS) for name in SLOT_FACTORS) + SCENE_FACTORS


def uniforms(seed: int, indices: np.ndarray, count: int) -> np.ndarray:
    """Draws uniform numbers in [0, 1) by splitmix64 (Steele et al. 2014).

    Args:
        seed: seed of all draws.
        indices: [N].
        count: numbers per index.

    Returns:
        float64 [N, count].
    """
    with np.errstate(over='ignore'):
        start = _mixed(np.asarray(indices).astype(np.uint64) + _mixed(np.uint64(seed) + _GOLDEN))
        state = start[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        return (_mixed(state) >> np.uint64(11)) * 2.0**-53


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(state: Any) -> Any:
    """Applies the output function of splitmix64 to uint64 values, elementwise."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def layout(seed: int, indices: np.ndarray, shapes: int = 0, hold_out: bool = False) -> dict[str, np.ndarray]:
    """Draws scenes.

    Args:
        seed: seed of all scenes.
        indices: indices of the scenes, [N].
        shapes: number of shapes per scene, 1..SLOTS; 0: one to SLOTS, drawn.
        hold_out: replace the kind of a shape whose combination is held out by one of the other kinds, uniformly.
            Nothing else changes. For single shapes, this is the distribution without the held-out scenes.

    Returns:
        {name: [N, SLOTS]} for SLOT_FACTORS, with zeros for absent shapes, and {name: [N]} for SCENE_FACTORS. `present`
        is bool. `kind`, `colour` and `background` are int64. `radius`, `x` (to the right) and `y` (down) are in units
        of the image's side. `rotation` is in radians, clockwise. `shading` is 0 for a plain background, else up to 1.
        `direction` is the angle of the shading, 0..2 pi.
    """
    draws = uniforms(seed, indices, 4 + 4 * SLOTS + 2 * SLOTS * TRIES)
    count = np.full(len(draws), shapes) if shapes else 1 + np.floor(draws[:, 0] * SLOTS).astype(np.int64)
    present = np.arange(SLOTS) < count[:, None]
    kind, colour, size, turn = draws[:, 4 : 4 + 4 * SLOTS].reshape(-1, 4, SLOTS).transpose(1, 0, 2)
    radius = np.where(present, _radii(size, count), 0)
    places = draws[:, 4 + 4 * SLOTS :].reshape(-1, SLOTS, TRIES, 2)
    radius, x, y = _place(radius, places)
    shaded = draws[:, 2] < 0.5
    known = {
        'kind': np.floor(kind * len(KINDS)).astype(np.int64),
        'radius': radius,
        'x': x,
        'y': y,
        'colour': np.floor(colour * len(COLOURS)).astype(np.int64),
        'rotation': (2 * turn - 1) * TILT,
    }
    if hold_out:
        known['kind'] = _allowed(known['kind'], known['colour'], places_of(x, y), kind * len(KINDS) % 1)
    return {name: np.where(present, array, 0) for name, array in known.items()} | {
        'present': present,
        'background': np.floor(draws[:, 1] * len(BACKGROUNDS)).astype(np.int64),
        'shading': np.where(shaded, 0.5 + draws[:, 2], 0),
        'direction': np.where(shaded, 2 * np.pi * draws[:, 3], 0),
    }


def places_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Numbers places: 3 row + column, each 0, 1 or 2 from the top left; the middle ones are narrow. int64 like x."""
    row, column = (
        (np.asarray(value) > MIDDLE[0]) + (np.asarray(value) > MIDDLE[1]).astype(np.int64) for value in (y, x)
    )
    return 3 * row + column


def held_out(kind: np.ndarray, colour: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Returns which combinations are held out of training, bool. The arguments are numbers of equal shapes."""
    return (kind + colour + place) % len(KINDS) < HELD_OUT


def _allowed(kind: np.ndarray, colour: np.ndarray, place: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Returns the kinds, where they are held out with one that is not, selected by draws in [0, 1); of equal shapes."""
    number = HELD_OUT + np.floor(draws * (len(KINDS) - HELD_OUT)).astype(np.int64)
    return np.where(held_out(kind, colour, place), (number - colour - place) % len(KINDS), kind)


def _radii(draws: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns radii [N, SLOTS], largest first and 0 if absent, from draws [N, SLOTS] and numbers of shapes [N]."""
    low, high = np.array([LARGE_RADII[n] for n in range(1, SLOTS + 1)])[count - 1].T
    small = SMALL_RADII[0] + (SMALL_RADII[1] - SMALL_RADII[0]) * draws / SMALL
    large = low[:, None] + (high - low)[:, None] * (draws - SMALL) / (1 - SMALL)
    radius = np.where(draws < SMALL, small, large)
    return -np.sort(-np.where(np.arange(SLOTS) < count[:, None], radius, 0), axis=1)


def _place(radius: np.ndarray, draws: np.ndarray) -> list[np.ndarray]:
    """Positions the shapes so that they rarely touch.

    Each slot in turn takes the first free position. If none is free, it takes the one with the most room, and the shape
    shrinks to fit, but not below the smallest radius.

    Args:
        radius: [N, SLOTS].
        draws: candidate positions [N, SLOTS, TRIES, 2], uniform in [0, 1).

    Returns:
        [radius, x, y], each [N, SLOTS], largest shape first.
    """
    centres = np.zeros((*radius.shape, 2))
    radius = radius.copy()
    every = np.arange(len(radius))
    for slot in range(SLOTS):
        own = radius[:, slot, None, None]
        tried = own + MARGIN + draws[:, slot] * (1 - 2 * (own + MARGIN))
        gap = np.linalg.norm(tried[:, :, None] - centres[:, None, :slot], axis=-1) - radius[:, None, :slot]
        room = (gap - MARGIN).min(axis=2, initial=1)
        free = room >= own[..., 0]
        best = np.where(free.any(axis=1), free.argmax(axis=1), room.argmax(axis=1))
        centres[:, slot] = tried[every, best]
        least = np.minimum(radius[:, slot], SMALL_RADII[0])
        radius[:, slot] = np.clip(room[every, best], least, radius[:, slot])
    return _largest_first(radius, *centres.transpose(2, 0, 1))


def _largest_first(radius: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Sorts the slots by radius again, because a shape may have shrunk: [N, SLOTS] each."""
    order = np.argsort(-radius, axis=1, kind='stable')
    return [np.take_along_axis(array, order, axis=1) for array in (radius, *others)]


def factors(scene: dict[str, np.ndarray]) -> np.ndarray:
    """Returns one row of numbers per scene, named by FACTORS: float32 [N, 31]."""
    slots = np.stack([scene[name] for name in SLOT_FACTORS], axis=2).reshape(len(scene['x']), -1)
    return np.concatenate([slots, np.stack([scene[name] for name in SCENE_FACTORS], 1)], 1).astype(np.float32)


def boxes(scene: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the box (x0, y0, x1, y1) of each shape in [0, 1], zeros if absent: float32 [N, SLOTS, 4]."""
    points = outlines()[scene['kind']]
    cosine, sine = np.cos(scene['rotation'])[..., None], np.sin(scene['rotation'])[..., None]
    x = points[..., 0] * cosine - points[..., 1] * sine
    y = points[..., 0] * sine + points[..., 1] * cosine
    ends = np.stack([x.min(-1), y.min(-1), x.max(-1), y.max(-1)], -1) * scene['radius'][..., None]
    around = ends + np.stack([scene['x'], scene['y']] * 2, -1)
    return np.where(scene['present'][..., None], np.clip(around, 0, 1), 0).astype(np.float32)


def box_classes(scene: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the kind of each shape, -1 if absent: int32 [N, SLOTS]."""
    return np.where(scene['present'], scene['kind'], -1).astype(np.int32)
