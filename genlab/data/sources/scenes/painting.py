"""Draws scenes in numpy, float32: the picture, its segmentation, its edges and the scene in a second style."""

import numpy as np

from genlab.data.sources.scenes.layout import SLOTS
from genlab.data.sources.scenes.shapes import BACKGROUNDS, COLOURS, distance

EDGE = 1 / 90  # half the width of an outline in units of the image's side; at least 0.6 pixels are drawn
HATCH = 1 / 12  # distance between hatching lines in the second style, in units of the image's side
INK = 0.22  # factor of the background's colour in the second style
SHADE = 0.22  # relative darkening at the end of a shaded background


class Canvas:
    """Draws a batch of N scenes on R x R pixels; all fields share the distances from pixels to shapes.

    Attributes:
        centres: float32 [R], pixel centres (i + 0.5) / R.
        distances: float32 [N, SLOTS, R, R], signed, in pixels; very large for absent shapes.
        coverage: [N, SLOTS, R, R], the share of each pixel inside each shape.
        visible: [N, SLOTS, R, R], the share of each pixel that shows each shape.
    """

    def __init__(self, scene: dict[str, np.ndarray], resolution: int) -> None:
        self.scene, self.resolution = scene, resolution
        self.centres = ((np.arange(resolution) + 0.5) / resolution).astype(np.float32)
        self.distances = self._distances()
        self.coverage = np.clip(0.5 - self.distances, 0, 1)
        self.visible = self._visible()

    def _distances(self) -> np.ndarray:
        """Computes `distances`."""
        scene, size = self.scene, self.resolution
        out = np.full((len(scene['x']), SLOTS, size, size), 1e4, np.float32)
        image, slot = np.nonzero(scene['present'])
        radius, x, y, turn, kind = (scene[name][image, slot] for name in ('radius', 'x', 'y', 'rotation', 'kind'))
        right, down = self._local(radius, x, y, turn)
        out[image, slot] = distance(kind, right, down) * (radius * size).astype(np.float32)[:, None, None]
        return out

    def _local(
        self, radius: np.ndarray, x: np.ndarray, y: np.ndarray, turn: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pixel coordinates in the frame of each shape, (right, down), each float32 [M, R, R].

        Each is the sum of a row and a column, which is fast.

        Args:
            radius, x, y: [M], in units of the image's side.
            turn: [M], rotation in radians.
        """
        cosine, sine = (np.cos(turn) / radius)[:, None], (np.sin(turn) / radius)[:, None]
        across, along = self.centres - x[:, None], self.centres - y[:, None]
        right = (across * cosine).astype(np.float32)[:, None, :] + (along * sine).astype(np.float32)[:, :, None]
        down = (along * cosine).astype(np.float32)[:, :, None] - (across * sine).astype(np.float32)[:, None, :]
        return right, down

    def _visible(self) -> np.ndarray:
        """Computes `visible`. Later slots cover earlier ones."""
        out, rest = np.empty_like(self.coverage), np.ones_like(self.coverage[:, 0])
        for slot in reversed(range(SLOTS)):
            out[:, slot] = self.coverage[:, slot] * rest
            rest = rest * (1 - self.coverage[:, slot])
        return out

    def _shade(self) -> np.ndarray:
        """Returns the shading of the background: [N, R, R], 0 for the full colour, up to 1 for the darkest."""
        angle, middle = self.scene['direction'].astype(np.float32)[:, None], self.centres - 0.5
        ramp = (np.cos(angle) * middle)[:, None, :] + (np.sin(angle) * middle)[:, :, None]
        return (ramp / np.sqrt(np.float32(2)) + 0.5) * self.scene['shading'].astype(np.float32)[:, None, None]

    def _lines(self) -> np.ndarray:
        """Returns the coverage by each shape's outline, without the parts that other shapes hide: [N, SLOTS, R, R]."""
        half = max(EDGE * self.resolution, 0.6)
        own = np.clip(0.5 + half - np.abs(self.distances), 0, 1)
        rest = np.ones_like(own[:, 0])
        for slot in reversed(range(SLOTS)):
            own[:, slot] *= rest
            rest = rest * (1 - self.coverage[:, slot])
        return own

    def image(self) -> np.ndarray:
        """Draws the picture with uniformly coloured shapes: uint8 [N, R, R, 3]."""
        ground, colours = palette(BACKGROUNDS)[self.scene['background']], palette(COLOURS)[self.scene['colour']]
        rest = 1 - self.visible.sum(1)
        dark = rest * self._shade() * SHADE
        return self._mix([rest - dark], self.visible, ground, colours)

    def style(self) -> np.ndarray:
        """Draws the scene as chalk on dark paper, outlined and hatched in its colours: uint8 [N, R, R, 3]."""
        ground = palette(BACKGROUNDS)[self.scene['background']] * INK + [6, 8, 16]
        colours = palette(COLOURS)[self.scene['colour']] * 0.72 + 255 * 0.28
        hatched = self.visible * (0.12 + 0.5 * self._hatching()[:, None])
        chalk = np.maximum(hatched, self._lines())
        return self._mix([np.clip(1 - chalk.sum(1), 0, 1)], chalk, ground, colours)

    def _hatching(self) -> np.ndarray:
        """Draws diagonal stripes: [1, R, R] in 0..1."""
        phase = (self.centres[:, None] + self.centres) / (HATCH * np.sqrt(2)) % 1
        width = np.float32(HATCH * self.resolution)
        return np.clip(0.5 + (0.25 - np.abs(phase - 0.5)) * width, 0, 1)[None].astype(np.float32)

    def _mix(
        self, grounds: list[np.ndarray], shapes: np.ndarray, ground: np.ndarray, colours: np.ndarray
    ) -> np.ndarray:
        """Averages colours with coverage as weights, by one small matrix product per image: uint8 [N, R, R, 3].

        Args:
            grounds: [the weight of the background, [N, R, R]].
            shapes: the weights of the shapes, [N, SLOTS, R, R].
            ground: colours of the backgrounds, [N, 3] in 0..255.
            colours: colours of the shapes, [N, SLOTS, 3] in 0..255.
        """
        size = self.resolution
        weights = np.concatenate([np.stack(grounds, 1), shapes], 1).reshape(len(shapes), -1, size * size)
        table = np.concatenate([ground[:, None], colours], 1).astype(np.float32)
        mixed = weights.transpose(0, 2, 1) @ table
        return np.minimum(mixed + 0.5, 255).astype(np.uint8).reshape(-1, size, size, 3)

    def edges(self) -> np.ndarray:
        """Draws white outlines of the visible shapes on black: uint8 [N, R, R, 1]."""
        lines = self._lines().max(1)
        return (lines * 255 + 0.5).astype(np.uint8)[..., None]

    def segmentation(self) -> np.ndarray:
        """Returns the segmentation, 0 for the background and 1 + kind for a shape: uint8 [N, R, R, 1]."""
        out = np.zeros_like(self.coverage[:, 0], np.uint8)
        for slot in range(SLOTS):
            kind = self.scene['kind'][:, slot, None, None].astype(np.uint8)
            out = np.where(self.distances[:, slot] <= 0, kind + np.uint8(1), out)
        return out[..., None]


def palette(table: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """Returns a table of named colours as float32 [colours, 3]."""
    return np.array(list(table.values()), np.float32)
