"""Generates scenes from their index: one to four shapes on a background, with several annotations.

Layout-conditional models can use the boxes and their classes, text-conditional models the captions as tokens.
Image-to-image models can use the segmentation, the edges and a second style of the scene. Disentanglement scores use
the factors.
"""

from collections.abc import Sequence

import numpy as np

from genlab.data import captions, fingerprint
from genlab.data.images import to_channels
from genlab.data.source import Field, Source, image_field, label_field
from genlab.data.sources.scenes import layout
from genlab.data.sources.scenes.painting import Canvas
from genlab.data.sources.scenes.shapes import KINDS
from genlab.errors import ConfigError, meant

SEED = 2026
SCENES = {'train': (0, 100_000), 'test': (2**32, 10_000)}  # first index and number: the ranges are disjoint
BLOCK = 64  # scenes drawn at once: their pixels fit a core's cache
PIXELS = ('image', 'style', 'edges', 'segmentation')
ON_DEMAND = ('factors', 'boxes', 'caption')  # annotations that `load` can add


def scenes(
    resolution: int = 32,
    channels: int = 3,
    split: str = 'train',
    fields: Sequence[str] = ('image', 'label'),
    shapes: int = 0,
    hold_out: bool = False,
) -> Source:
    """Returns a source of scenes that draws only the requested fields.

    image         uint8 [R, R, C]: the picture
    style         uint8 [R, R, C]: the same scene as chalk on dark paper
    edges         uint8 [R, R, 1]: white outlines on black
    segmentation  uint8 [R, R, 1]: 0 for the background, 1 + kind for a shape
    label         int32: the kind of the largest shape, 0..7
    factors       float32 [31]: the factors that `layout.FACTORS` names, zeros for absent shapes
    boxes         float32 [4, 4]: (x0, y0, x1, y1) in [0, 1], largest shape first, zeros if absent
    box_classes   int32 [4]: kinds, -1 if absent
    caption       int32 [26]: words of a sentence in `captions.VOCABULARY`, 0 after its end

    Args:
        resolution: R, pixels per side.
        channels: C, 1 or 3.
        split: 'train' or 'test'.
        fields: names from the list above.
        shapes: number of shapes per scene, 1..4; 0: one to four.
        hold_out: whether no training scene has a combination of kind, colour and place that `layout.held_out` names.
            The test split has all combinations.
    """
    if not 0 <= shapes <= layout.SLOTS:
        raise ConfigError(f'config.data.shapes={shapes}: choose 1 to {layout.SLOTS}, or 0 for any of these numbers')
    declared = declare(resolution, channels)
    for field in fields:
        if field not in declared:
            raise ConfigError(
                f'the field of scenes={field!r}: choose one of {", ".join(declared)}{meant(field, declared)}'
            )
    start, length = SCENES[split]
    hold_out = hold_out and split == 'train'
    chosen = [shapes, hold_out] if shapes or hold_out else []  # the fingerprint of scenes without options is older

    def layouts(indices: np.ndarray) -> dict[str, np.ndarray]:
        return layout.layout(SEED, np.asarray(indices) + start, shapes, hold_out)

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        blocks = [
            draw(layouts(indices[n : n + BLOCK]), resolution, channels, fields) for n in range(0, len(indices), BLOCK)
        ]
        return {field: np.concatenate([block[field] for block in blocks]) for field in fields}

    return Source(
        name=f'scenes/{split}',
        fields={field: declared[field] for field in fields},
        length=length,
        rows=rows,
        in_memory=False,
        classes=KINDS,
        vocabulary=captions.VOCABULARY,
        on_demand=ON_DEMAND,
        fingerprint=lambda: fingerprint.Fingerprint(fingerprint.of_values(['scenes', SEED, start, length, *chosen])),
        captions=lambda indices: captions.sentences(layouts(indices)),
    )


def declare(resolution: int, channels: int) -> dict[str, Field]:
    """Declares every field that a scene can have."""
    map_of_kinds = Field((resolution, resolution, 1), np.dtype(np.uint8), 0, len(KINDS))
    numbers, integers = np.dtype(np.float32), np.dtype(np.int32)
    slots, columns = layout.SLOTS, len(layout.FACTORS)
    return {
        'image': image_field(resolution, channels),
        'style': image_field(resolution, channels),
        'edges': image_field(resolution, 1),
        'segmentation': map_of_kinds,
        'label': label_field(len(KINDS)),
        'factors': Field((columns,), numbers, -layout.TILT, 7),
        'boxes': Field((slots, 4), numbers, 0, 1),
        'box_classes': Field((slots,), integers, -1, len(KINDS) - 1),
        'caption': Field((captions.LENGTH,), integers, 0, len(captions.VOCABULARY) - 1),
    }


def draw(scene: dict[str, np.ndarray], resolution: int, channels: int, fields: Sequence[str]) -> dict[str, np.ndarray]:
    """Draws scenes.

    Args:
        scene: the layout of N scenes.
        resolution: pixels per side.
        channels: 1 or 3.
        fields: names of the fields.

    Returns:
        {field: [N, ...]}.
    """
    canvas = Canvas(scene, resolution) if set(fields) & set(PIXELS) else None
    return {field: _draw_one(field, scene, canvas, channels) for field in fields}


def _draw_one(field: str, scene: dict[str, np.ndarray], canvas: Canvas | None, channels: int) -> np.ndarray:
    """Draws one field. The canvas is needed for fields of pixels only."""
    if field in ('image', 'style'):
        return to_channels(getattr(canvas, field)(), channels)
    if field in PIXELS:
        return getattr(canvas, field)()
    if field == 'label':
        return scene['kind'][:, 0].astype(np.int32)
    if field == 'caption':
        return captions.tokens(captions.sentences(scene))
    return getattr(layout, field)(scene)
