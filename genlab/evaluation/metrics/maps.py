"""A map of codes: a scatter of points on a plane, coloured by class, with the colours of the classes beside it."""

import colorsys

import numpy as np

from genlab.run.images import SHADE

COLOURS = ('#2563c9', '#d9540b', '#2a8a4a', '#9333b8', '#c4264f', '#0f9fae', '#e0a800', '#7a4a21', '#f07ab8', '#5c6670')
TEXT, PAPER = (28, 32, 38), (255, 255, 255)
FINE = 3  # drawn so much larger and then reduced: soft edges


def map_picture(
    points: np.ndarray, labels: np.ndarray | None = None, classes: tuple[str, ...] = (), size: int = 480
) -> np.ndarray:
    """Points [N, 2] as discs in the colours of their labels, uint8 [size, size + legend, 3]; no legend without labels.

    labels: integers, of which the first N are used; classes: their names, else their numbers. Later points lie on earlier
    ones, so give them in no order of class. Points that are not finite are left out."""
    labels = np.zeros(len(points), int) if labels is None else np.asarray(labels)[: len(points)]
    names = list(classes) or [str(label) for label in range(labels.max(initial=0) + 1)]
    colours = palette(len(names))
    picture = _scatter(np.float64(points), [colours[label] for label in labels], size)
    return picture if len(names) == 1 else np.concatenate([picture, _legend(names, colours, size)], 1)


def palette(count: int) -> list[tuple[int, int, int]]:
    """Colours of `count` classes: ten that are easily told apart, or hues around the circle for more."""
    if count <= len(COLOURS):
        return [tuple(bytes.fromhex(colour[1:])) for colour in COLOURS[:count]]
    return [
        tuple(round(255 * part) for part in colorsys.hls_to_rgb(index / count, (0.35, 0.5, 0.62)[index % 3], 0.8))
        for index in range(count)
    ]


def _scatter(points, colours, size):
    """uint8 [size, size, 3] within a frame, both axes on one scale."""
    from PIL import Image, ImageDraw

    kept = np.isfinite(points).all(1)
    points, colours = points[kept], [colour for colour, keep in zip(colours, kept) if keep]
    low, high = (points.min(0), points.max(0)) if len(points) else (np.zeros(2), np.ones(2))
    scale = 0.92 * size / max((high - low).max(), 1e-12)
    pixels = ((points - (low + high) / 2) * (scale, -scale) + size / 2) * FINE  # rows count downwards
    radius = FINE * size / 240 * min(max((1000 / max(len(points), 1)) ** 0.25, 0.8), 1.6)
    sheet = Image.new('RGB', (size * FINE, size * FINE), PAPER)
    draw = ImageDraw.Draw(sheet)
    for (x, y), colour in zip(pixels, colours):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    picture = np.array(sheet.reduce(FINE))
    picture[[0, -1]] = picture[:, [0, -1]] = SHADE
    return picture


def _legend(names, colours, size):
    """uint8 [size, width, 3]: a swatch and a name each, in as many columns as it takes."""
    from PIL import Image, ImageDraw, ImageFont

    font, row = ImageFont.load_default(), 16
    rows = max((size - 8) // row, 1)
    column = 24 + max(round(font.getlength(name)) for name in names)
    sheet = Image.new('RGB', (column * -(-len(names) // rows), size), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (name, colour) in enumerate(zip(names, colours)):
        x, y = index // rows * column + 8, index % rows * row + 6
        draw.rectangle((x, y, x + 9, y + 9), fill=colour)
        draw.text((x + 14, y + 5), name, fill=TEXT, font=font, anchor='lm')
    return np.array(sheet)
