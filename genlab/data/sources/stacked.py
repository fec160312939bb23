"""Stacks three grey images as the color channels of one: ten classes become a thousand modes.

Stacked digits count how many modes a model covers (Metz et al. 2017, section 3.3; Lin et al. 2018, PacGAN, section 4).
"""

import dataclasses

import numpy as np

from genlab.data import fingerprint
from genlab.data.source import Source, image_field

COPIES = 20  # stacked images per image
CHANNELS = 3


def stacked(source: Source) -> Source:
    """Returns a source of COPIES * N images [R, R, 3] whose channels are images of a grey source of N.

    Channels are a fixed function of the index. There is no label.

    Args:
        source: with `image` uint8 [R, R, 1].
    """
    side = source.fields['image'].shape[0]

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        parts = [source.rows(chosen(indices, channel, len(source)))['image'] for channel in range(CHANNELS)]
        return {'image': np.concatenate(parts, -1)}

    return dataclasses.replace(
        source,
        name=f'stacked {source.name}',
        fields={'image': image_field(side, CHANNELS)},
        length=COPIES * len(source),
        rows=rows,
        in_memory=source.in_memory,
        classes=(),
        labels=None,
        captions=None,
        vocabulary=(),
        fingerprint=lambda: fingerprint.Fingerprint(
            fingerprint.of_values(['stacked', COPIES, CHANNELS, fingerprint.of(source).digest])
        ),
    )


def chosen(indices: np.ndarray, channel: int, count: int) -> np.ndarray:
    """Returns the image of a channel of each stacked image: pseudo-random numbers below `count`, int64 [N].

    They are the outputs of SplitMix64 (Steele et al. 2014) at 3 * index + channel.
    """
    x = (CHANNELS * np.asarray(indices, np.uint64) + np.uint64(channel + 1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) % np.uint64(count)).astype(np.int64)
