"""Draws the content of a scene from its index: counts, kinds, colours, sizes, places, rotations, background.

A counter-based generator (splitmix64 of seed, index and a counter) makes the draws of a whole batch at once and in any
order; a scene does not depend on the resolution or on what else is drawn.
"""

import numpy as np

from genlab.data.sources.scenes.shapes import BACKGROUNDS, COLOURS, KINDS, outlines

SLOTS = 4  # most shapes in a scene, the largest first
LARGE = 0.16  # a shape of at least this radius is called large
SMALL_RADII = (0.12, 0.145)
LARGE_RADII = {1: (0.26, 0.38), 2: (0.2, 0.28), 3: (0.175, 0.215), 4: (0.165, 0.19)}  # by the number of shapes
SMALL = 0.4  # part of the shapes that are small
TILT = 0.5  # rotation in -0.5..0.5 radians, so that hearts stay hearts
MARGIN = 0.015  # kept free around every shape
TRIES = 40  # places drawn for a shape: the first free one is taken
SLOT_FACTORS = ('present', 'kind', 'colour', 'radius', 'x', 'y', 'rotation')
SCENE_FACTORS = ('background', 'shading', 'direction')
FACTORS = tuple(f'{name}_{slot}' for slot in range(SLOTS) for name in SLOT_FACTORS) + SCENE_FACTORS


def uniforms(seed: int, indices: np.ndarray, count: int) -> np.ndarray:
    """Draws uniform numbers in [0, 1) from (seed, index, counter): float64 [N, count] (Steele et al. 2014, splitmix64)."""
    with np.errstate(over='ignore'):
        start = _mixed(np.asarray(indices).astype(np.uint64) + _mixed(np.uint64(seed) + _GOLDEN))
        state = start[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        return (_mixed(state) >> np.uint64(11)) * 2.0**-53


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(state):
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def layout(seed: int, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Draws the scenes of indices [N] as arrays: {name: [N, SLOTS]} for SLOT_FACTORS and {name: [N]} for SCENE_FACTORS.

    present bool; kind, colour, background int64; radius, x, y as parts of the image's side, x to the right and y down;
    rotation in radians, clockwise; shading 0 (plain) or up to 1; direction of the shading in 0..2 pi. Absent slots are
    zeros.
    """
    draws = uniforms(seed, indices, 4 + 4 * SLOTS + 2 * SLOTS * TRIES)
    count = 1 + np.floor(draws[:, 0] * SLOTS).astype(np.int64)
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
    return {name: np.where(present, array, 0) for name, array in known.items()} | {
        'present': present,
        'background': np.floor(draws[:, 1] * len(BACKGROUNDS)).astype(np.int64),
        'shading': np.where(shaded, 0.5 + draws[:, 2], 0),
        'direction': np.where(shaded, 2 * np.pi * draws[:, 3], 0),
    }


def _radii(draws, count):
    """Radii [N, SLOTS], the largest first, zeros where absent."""
    low, high = np.array([LARGE_RADII[n] for n in range(1, SLOTS + 1)])[count - 1].T
    small = SMALL_RADII[0] + (SMALL_RADII[1] - SMALL_RADII[0]) * draws / SMALL
    large = low[:, None] + (high - low)[:, None] * (draws - SMALL) / (1 - SMALL)
    radius = np.where(draws < SMALL, small, large)
    return -np.sort(-np.where(np.arange(SLOTS) < count[:, None], radius, 0), axis=1)


def _place(radius, draws):
    """Places for radii [N, SLOTS] from draws [N, SLOTS, TRIES, 2] so that the shapes hardly touch -> radius, x, y.

    Slot by slot, the first of the drawn places that is free, else the one with most room, where the shape shrinks to
    the room there is (to a small one at least).
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


def _largest_first(radius, *others):
    """Orders the slots again, because a shape may have shrunk."""
    order = np.argsort(-radius, axis=1, kind='stable')
    return [np.take_along_axis(array, order, axis=1) for array in (radius, *others)]


def factors(scene: dict[str, np.ndarray]) -> np.ndarray:
    """Returns one row of numbers per scene, named by FACTORS: float32 [N, 31]."""
    slots = np.stack([scene[name] for name in SLOT_FACTORS], axis=2).reshape(len(scene['x']), -1)
    return np.concatenate([slots, np.stack([scene[name] for name in SCENE_FACTORS], 1)], 1).astype(np.float32)


def boxes(scene: dict[str, np.ndarray]) -> np.ndarray:
    """Returns (x0, y0, x1, y1) around each shape, parts of the image's side: float32 [N, SLOTS, 4]; zeros when absent."""
    points = outlines()[scene['kind']]
    cosine, sine = np.cos(scene['rotation'])[..., None], np.sin(scene['rotation'])[..., None]
    x = points[..., 0] * cosine - points[..., 1] * sine
    y = points[..., 0] * sine + points[..., 1] * cosine
    ends = np.stack([x.min(-1), y.min(-1), x.max(-1), y.max(-1)], -1) * scene['radius'][..., None]
    around = ends + np.stack([scene['x'], scene['y']] * 2, -1)
    return np.where(scene['present'][..., None], np.clip(around, 0, 1), 0).astype(np.float32)


def box_classes(scene: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the kind of each shape, -1 when absent: int32 [N, SLOTS]."""
    return np.where(scene['present'], scene['kind'], -1).astype(np.int32)
