"""Draws scenes: the picture, its map of kinds, its edges and the same scene in a second style. numpy, float32."""

import numpy as np

from genlab.data.sources.scenes.layout import SLOTS
from genlab.data.sources.scenes.shapes import BACKGROUNDS, COLOURS, distance

EDGE = 1 / 90  # half the width of a drawn line, a part of the image's side, and at least 0.6 pixels
HATCH = 1 / 12  # distance of the hatching's lines in the second style
INK = 0.22  # how much of a background's colour is left on the dark paper of the second style
SHADE = 0.22  # how much darker a shaded background ends


class Canvas:
    """The signed distances of a batch of scenes to the pixels, drawn once for all fields that are asked for.

    distances: float32 [N, SLOTS, R, R] in pixels, absent shapes far away. Pixel centres lie at (i + 0.5) / R.
    """

    def __init__(self, scene: dict[str, np.ndarray], resolution: int) -> None:
        self.scene, self.resolution = scene, resolution
        self.centres = ((np.arange(resolution) + 0.5) / resolution).astype(np.float32)
        self.distances = self._distances()
        self.coverage = np.clip(0.5 - self.distances, 0, 1)
        self.visible = self._visible()

    def _distances(self) -> np.ndarray:
        scene, size = self.scene, self.resolution
        out = np.full((len(scene['x']), SLOTS, size, size), 1e4, np.float32)
        image, slot = np.nonzero(scene['present'])
        radius, x, y, turn, kind = (scene[name][image, slot] for name in ('radius', 'x', 'y', 'rotation', 'kind'))
        right, down = self._local(radius, x, y, turn)
        out[image, slot] = distance(kind, right, down) * (radius * size).astype(np.float32)[:, None, None]
        return out

    def _local(self, radius, x, y, turn):
        """The pixels in each shape's own frame: two float32 [M, R, R]; sums of a row and a column, so cheap."""
        cosine, sine = (np.cos(turn) / radius)[:, None], (np.sin(turn) / radius)[:, None]
        across, along = self.centres - x[:, None], self.centres - y[:, None]
        right = (across * cosine).astype(np.float32)[:, None, :] + (along * sine).astype(np.float32)[:, :, None]
        down = (along * cosine).astype(np.float32)[:, :, None] - (across * sine).astype(np.float32)[:, None, :]
        return right, down

    def _visible(self) -> np.ndarray:
        """Part of each pixel that shows each shape, later slots lying above: [N, SLOTS, R, R]."""
        out, rest = np.empty_like(self.coverage), np.ones_like(self.coverage[:, 0])
        for slot in reversed(range(SLOTS)):
            out[:, slot] = self.coverage[:, slot] * rest
            rest = rest * (1 - self.coverage[:, slot])
        return out

    def _shade(self) -> np.ndarray:
        """0 where the background has its full colour, up to 1 where it is darkest: [N, R, R]."""
        angle, middle = self.scene['direction'].astype(np.float32)[:, None], self.centres - 0.5
        ramp = (np.cos(angle) * middle)[:, None, :] + (np.sin(angle) * middle)[:, :, None]
        return (ramp / np.sqrt(np.float32(2)) + 0.5) * self.scene['shading'].astype(np.float32)[:, None, None]

    def _lines(self) -> np.ndarray:
        """Coverage of each shape's outline, hidden where another shape lies above: [N, SLOTS, R, R]."""
        half = max(EDGE * self.resolution, 0.6)
        own = np.clip(0.5 + half - np.abs(self.distances), 0, 1)
        rest = np.ones_like(own[:, 0])
        for slot in reversed(range(SLOTS)):
            own[:, slot] *= rest
            rest = rest * (1 - self.coverage[:, slot])
        return own

    def image(self) -> np.ndarray:
        """The flat picture: uint8 [N, R, R, 3]."""
        ground, colours = palette(BACKGROUNDS)[self.scene['background']], palette(COLOURS)[self.scene['colour']]
        rest = 1 - self.visible.sum(1)
        dark = rest * self._shade() * SHADE
        return self._mix([rest - dark], self.visible, ground, colours)

    def style(self) -> np.ndarray:
        """The same scene as chalk on dark paper, outlined and hatched in its colours: uint8 [N, R, R, 3]."""
        ground = palette(BACKGROUNDS)[self.scene['background']] * INK + [6, 8, 16]
        colours = palette(COLOURS)[self.scene['colour']] * 0.72 + 255 * 0.28
        hatched = self.visible * (0.12 + 0.5 * self._hatching()[:, None])
        chalk = np.maximum(hatched, self._lines())
        return self._mix([np.clip(1 - chalk.sum(1), 0, 1)], chalk, ground, colours)

    def _hatching(self) -> np.ndarray:
        """Diagonal stripes over the whole picture: [1, R, R] in 0..1."""
        phase = (self.centres[:, None] + self.centres) / (HATCH * np.sqrt(2)) % 1
        width = np.float32(HATCH * self.resolution)
        return np.clip(0.5 + (0.25 - np.abs(phase - 0.5)) * width, 0, 1)[None].astype(np.float32)

    def _mix(self, grounds, shapes, ground, colours):
        """Weighs colours by coverage: one small matrix product per image -> uint8 [N, R, R, 3]."""
        size = self.resolution
        weights = np.concatenate([np.stack(grounds, 1), shapes], 1).reshape(len(shapes), -1, size * size)
        table = np.concatenate([ground[:, None], colours], 1).astype(np.float32)
        mixed = weights.transpose(0, 2, 1) @ table
        return np.minimum(mixed + 0.5, 255).astype(np.uint8).reshape(-1, size, size, 3)

    def edges(self) -> np.ndarray:
        """White outlines of the visible shapes on black: uint8 [N, R, R, 1]."""
        lines = self._lines().max(1)
        return (lines * 255 + 0.5).astype(np.uint8)[..., None]

    def segmentation(self) -> np.ndarray:
        """0 where the background shows, 1 + kind where a shape does: uint8 [N, R, R, 1]."""
        out = np.zeros_like(self.coverage[:, 0], np.uint8)
        for slot in range(SLOTS):
            kind = self.scene['kind'][:, slot, None, None].astype(np.uint8)
            out = np.where(self.distances[:, slot] <= 0, kind + np.uint8(1), out)
        return out[..., None]


def palette(table: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """Returns a table of named colours as float32 [colours, 3]."""
    return np.array(list(table.values()), np.float32)
