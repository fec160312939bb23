"""A map of codes: a scatter plot on a plane, coloured by class, with a legend."""

import colorsys

import numpy as np

from genlab.run.images import SHADE

Colour = tuple[int, ...]  # red, green, blue, 0 to 255
COLOURS = ('#2563c9', '#d9540b', '#2a8a4a', '#9333b8', '#c4264f', '#0f9fae', '#e0a800', '#7a4a21', '#f07ab8', '#5c6670')
TEXT, PAPER = (28, 32, 38), (255, 255, 255)
FINE = 3  # the plot is drawn larger by this factor and then reduced, for antialiasing


def map_picture(
    points: np.ndarray, labels: np.ndarray | None = None, classes: tuple[str, ...] = (), size: int = 480
) -> np.ndarray:
    """Draws points as discs in the colours of their labels.

    Later points cover earlier ones, so the order should not follow the classes. Points that are not finite are left
    out.

    Args:
      points: [N, 2].
      labels: integers, of which the first N are used; None draws one colour without a legend.
      classes: names for the legend; the label numbers by default.
      size: size of the plot, in pixels.

    Returns:
      uint8 [size, size + legend, 3].
    """
    labels = np.zeros(len(points), int) if labels is None else np.asarray(labels)[: len(points)]
    names = list(classes) or [str(label) for label in range(labels.max(initial=0) + 1)]
    colours = palette(len(names))
    picture = _scatter(np.asarray(points, np.float64), [colours[label] for label in labels], size)
    return picture if len(names) == 1 else np.concatenate([picture, _legend(names, colours, size)], 1)


def palette(count: int) -> list[Colour]:
    """Returns the colours of `count` classes: ten distinct colours, or for more classes hues around the circle."""
    if count <= len(COLOURS):
        return [tuple(bytes.fromhex(colour[1:])) for colour in COLOURS[:count]]
    return [
        tuple(round(255 * part) for part in colorsys.hls_to_rgb(index / count, (0.35, 0.5, 0.62)[index % 3], 0.8))
        for index in range(count)
    ]


def _scatter(points: np.ndarray, colours: list[Colour], size: int) -> np.ndarray:
    """Draws points within a frame, both axes at one scale: uint8 [size, size, 3]."""
    from PIL import Image, ImageDraw

    kept = np.isfinite(points).all(1)
    points, colours = points[kept], [colour for colour, keep in zip(colours, kept) if keep]
    low, high = (points.min(0), points.max(0)) if len(points) else (np.zeros(2), np.ones(2))
    scale = 0.92 * size / max((high - low).max(), 1e-12)
    pixels = ((points - (low + high) / 2) * (scale, -scale) + size / 2) * FINE  # row indices increase downwards
    radius = FINE * size / 240 * min(max((1000 / max(len(points), 1)) ** 0.25, 0.8), 1.6)
    sheet = Image.new('RGB', (size * FINE, size * FINE), PAPER)
    draw = ImageDraw.Draw(sheet)
    for (x, y), colour in zip(pixels, colours):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    picture = np.array(sheet.reduce(FINE))
    picture[[0, -1]] = picture[:, [0, -1]] = SHADE
    return picture


def _legend(names: list[str], colours: list[Colour], size: int) -> np.ndarray:
    """Draws a swatch and a name per class, in as many columns as needed: uint8 [size, width, 3]."""
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
