"""Reads scenes from pixels alone: kind, colour and place of each shape, and their agreement with the request.

No network is trained: colours and outlines of shapes are known. The background is an affine function of the position,
fitted to the border. Each other pixel is a mixture of the background and one colour of the palette. Connected pixels of
a colour are one shape. Its outline is the nearest template among all kinds and rotations, sharp and blurred.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from genlab.data.sources.scenes.layout import SLOTS, TILT, places_of
from genlab.data.sources.scenes.painting import palette
from genlab.data.sources.scenes.shapes import COLOURS, KINDS, distance

BORDER = 8.0  # residual of 8-bit levels at which a pixel of the border has half its weight
LEAST = 0.008  # smallest area of a shape, as a share of the image; a small star has 0.019
TURNS = 9  # rotations that are tried
BLURS = (0.0, 0.6, 1.0)  # standard deviations of the blurs that are tried, in 1/32 of the image's side
ROUND = ('circle', 'ring')  # kinds that look the same in every rotation
PARTS = ('kind', 'colour', 'place')  # what is compared with a caption

Shape = Mapping[str, Any]


def read(images: np.ndarray) -> dict[str, np.ndarray]:
    """Reads the shapes of scenes.

    Args:
        images: [N, R, R, 3] in [-1, 1], of scenes at 32 pixels or more; blur does little harm.

    Returns:
        {name: [N, SLOTS]}, as `layout`, the largest shape first: `present`, `kind`, `colour`, `radius`, `x`, `y`. There
        is `place` too, see `places_of`. Absent shapes have the numbers -1, and zeros for radius, x and y.
    """
    levels = 127.5 * (np.asarray(images, np.float32) + 1)
    found: dict[str, np.ndarray] = {
        **{name: np.full((len(images), SLOTS), -1, np.int64) for name in PARTS},
        **{name: np.zeros((len(images), SLOTS), np.float32) for name in ('radius', 'x', 'y')},
    }
    for number, (image, ground) in enumerate(zip(levels, backgrounds(levels))):
        shapes = sorted(_shapes(image, ground), key=lambda shape: -shape['radius'])
        for slot, shape in enumerate(shapes[:SLOTS]):
            for name, value in shape.items():
                found[name][number, slot] = value
    return {'present': found['kind'] >= 0, **found}


def backgrounds(levels: np.ndarray) -> np.ndarray:
    """Fits an affine function of the position to the border of each image, channel by channel, robustly.

    levels: [N, R, R, C], 0..255. Returns the background, of the same shape.
    """
    size = levels.shape[1]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    terms = np.stack([np.ones((size, size), np.float32), *np.meshgrid(axis, axis)], -1)
    edge = np.ones((size, size), bool)
    edge[1:-1, 1:-1] = False
    inputs, targets = terms[edge], levels[:, edge]
    weights = np.ones(targets.shape[:2], np.float32)
    for _ in range(5):
        gram = np.einsum('np,pi,pj->nij', weights, inputs, inputs) + 1e-3 * np.eye(3, dtype=np.float32)
        right = np.einsum('np,pi,npc->nic', weights, inputs, targets)
        fitted = np.linalg.solve(gram, right)
        errors = np.linalg.norm(targets - np.einsum('pi,nic->npc', inputs, fitted), axis=-1)
        weights = 1 / (1 + np.square(errors / BORDER))
    return np.einsum('hwi,nic->nhwc', terms, fitted)


def class_maps(images: np.ndarray) -> np.ndarray:
    """Reads which class each pixel of scenes shows: 0 for the background, 1 + kind for a shape.

    images: [N, R, R, 3] in [-1, 1], see `read`. Returns int [N, R, R].
    """
    levels = 127.5 * (np.asarray(images, np.float32) + 1)
    maps = np.zeros(images.shape[:3], np.int64)
    for number, (image, ground) in enumerate(zip(levels, backgrounds(levels))):
        for _, share, part, taken in _parts(image, ground):
            maps[number][part] = 1 + _outline(share, part, taken)['kind']
    return maps


def map_agreement(found: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """Compares maps of classes, int [N, R, R] each (Isola et al. 2017, section 4.1).

    Returns:
        `pixel_accuracy`: the share of pixels with the requested class. `class_accuracy`: the mean of this share over
        the requested classes, so that the background counts as one class.
    """
    right = found == asked
    return {
        'pixel_accuracy': float(right.mean()),
        'class_accuracy': float(np.mean([right[asked == number].mean() for number in np.unique(asked)])),
    }


def _shapes(image: np.ndarray, ground: np.ndarray) -> list[Shape]:
    """Reads the shapes of one image [R, R, 3] on its background [R, R, 3], levels 0..255."""
    return [{'colour': colour, **_outline(share, part, taken)} for colour, share, part, taken in _parts(image, ground)]


def _parts(image: np.ndarray, ground: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yields the connected parts of one colour in an image: the colour, and the arguments of `_outline`."""
    from scipy import ndimage

    towards = palette(COLOURS)[:, None, None] - ground[None]  # [colours, R, R, 3]
    given = image - ground
    share = np.clip((towards * given[None]).sum(-1) / np.square(towards).sum(-1), 0, 1)
    colour = np.square(given[None] - share[..., None] * towards).sum(-1).argmin(0)
    own = np.take_along_axis(share, colour[None], 0)[0] > 0.5
    for number in np.unique(colour[own]):
        parts, count = ndimage.label(own & (colour == number), np.ones((3, 3)))
        for part in range(1, count + 1):
            area = (parts == part).sum()
            if area >= LEAST * share[0].size:
                yield int(number), share[number], parts == part, own


def _outline(share: np.ndarray, part: np.ndarray, taken: np.ndarray) -> Shape:
    """Finds the kind and position of a shape by its nearest template.

    Args:
        share: share of the shape's colour in each pixel, [R, R].
        part: the pixels of which most belong to the shape, bool [R, R].
        taken: the pixels of which most belong to any shape, bool [R, R].
    """
    from scipy import ndimage

    size = len(share)
    near = ndimage.binary_dilation(part, np.ones((3, 3)), iterations=max(1, size // 16))
    share = np.where(near & (part | ~taken), share, 0)
    centres = (np.arange(size) + 0.5) / size
    area = share.sum()
    x, y = (share.sum(0) * centres).sum() / area, (share.sum(1) * centres).sum() / area
    kinds, turns, areas, offsets = templates()
    radius = np.sqrt(area / areas) / size
    middle = np.array([x, y]) - offsets * radius[:, None]
    rows, columns = (_around(np.any(part, axis), size // 8) for axis in (1, 0))  # templates are drawn there only
    across = (centres[None, columns] - middle[:, :1]) / radius[:, None]
    down = (centres[None, rows] - middle[:, 1:]) / radius[:, None]
    cosine, sine = np.cos(turns)[:, None, None], np.sin(turns)[:, None, None]
    across, down = across[:, None, :], down[:, :, None]
    signed = distance(kinds, across * cosine + down * sine, down * cosine - across * sine)
    sharp = np.clip(0.5 - signed * (radius * size)[:, None, None], 0, 1)
    known, share = (part | ~taken)[rows, columns], share[rows, columns]  # other shapes may hide the rest
    errors = []
    for blur in BLURS:
        smooth = _blur(size, blur * size / 32)
        mixed = smooth[rows, rows] @ sharp @ smooth[columns, columns]
        errors.append((np.square(mixed - share) * known).sum((1, 2)))
    best = int(np.min(errors, 0).argmin())
    x, y = middle[best]
    return {'kind': kinds[best], 'radius': radius[best], 'x': x, 'y': y, 'place': places_of(x, y)}


def _around(there: np.ndarray, margin: int) -> slice:
    """Returns the range of the true entries [R] with a margin on both sides."""
    first, last = np.flatnonzero(there)[[0, -1]]
    return slice(max(int(first) - margin, 0), int(last) + margin + 1)


@functools.cache
def templates() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns (kinds [T], rotations [T], areas [T], centroids [T, 2]) of all templates, of radius 1."""
    pairs = [
        (kind, turn)
        for kind, name in enumerate(KINDS)
        for turn in ([0.0] if name in ROUND else np.linspace(-TILT, TILT, TURNS))
    ]
    kinds, turns = np.array([kind for kind, _ in pairs]), np.array([turn for _, turn in pairs])
    axis = (np.arange(200) + 0.5) / 100 - 1
    right, down = np.meshgrid(axis, axis)
    inside = distance(np.arange(len(KINDS)), *(np.broadcast_to(grid, (len(KINDS), 200, 200)) for grid in (right, down)))
    inside = inside <= 0
    areas = inside.sum((1, 2)) * 1e-4
    middle = np.stack([(inside * grid).sum((1, 2)) / inside.sum((1, 2)) for grid in (right, down)], -1)[kinds]
    cosine, sine = np.cos(turns), np.sin(turns)
    rotated = [middle[:, 0] * cosine - middle[:, 1] * sine, middle[:, 0] * sine + middle[:, 1] * cosine]
    return kinds, turns, areas[kinds], np.stack(rotated, -1)


@functools.cache
def _blur(size: int, deviation: float) -> np.ndarray:
    """Returns the symmetric matrix that blurs a line of `size` pixels by a Gaussian."""
    if not deviation:
        return np.eye(size)
    apart = np.subtract.outer(np.arange(size), np.arange(size))
    kernel = np.exp(-0.5 * np.square(apart / deviation))
    return kernel / kernel[size // 2].sum()


def agreement(found: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Compares the contents of images with the request.

    Args:
        found: number of each of PARTS in the images, int [N]; -1 where nothing was found.
        asked: number of each of PARTS, int [N], of at least two images.

    Returns:
        The share of images in which a part is right, by its name, and `all` for all parts at once. Each has a `chance`,
        such as `kind_by_chance`: the share if each image is compared with the request of another one.
    """
    equal = {name: found[name][:, None] == asked[name][None] for name in PARTS}
    equal['all'] = np.logical_and.reduce([equal[name] for name in PARTS])
    count, figures = len(equal['all']), {}
    for name, pairs in equal.items():
        right = int(np.trace(pairs))
        figures[name] = right / count
        figures[f'{name}_by_chance'] = float(pairs.sum() - right) / (count * (count - 1))
    return figures
