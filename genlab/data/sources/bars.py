"""Bars and stripes: images whose rows, or whose columns, are all black or all white.

A test distribution of small models of binary units (MacKay 2003, "Information Theory, Inference, and Learning
Algorithms", section 43.3). It is known exactly: on a grid of side R, all 2^R rows and all 2^R columns are equally
likely. So the empty and the full image have twice the probability of the others.
"""

import numpy as np

from genlab.data import fingerprint
from genlab.data.source import Field, Source, image_field, label_field
from genlab.errors import ConfigError

MOST = 20  # pixels per side: an index names a pattern


def bars(resolution: int = 4, channels: int = 1, split: str = 'train') -> Source:
    """Returns every pattern once per direction, 2^(R+1) images, the same in both splits.

    The fields are `image` uint8 [R, R, C] of 0 and 255, and `label` int32: 0 for stripes in rows, 1 for bars in
    columns.

    Args:
        resolution: R, pixels per side.
        channels: C, 1 or 3; all are equal.
        split: 'train' or 'test'.
    """
    if resolution > MOST:
        raise ConfigError(f"config.data.resolution={resolution}: config.data.source='bars' has at most {MOST} pixels")
    count = 2 ** (resolution + 1)
    fields: dict[str, Field] = {'image': image_field(resolution, channels), 'label': label_field(2)}

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        indices = np.asarray(indices)
        label, pattern = indices % 2, indices // 2
        line = (pattern[:, None] >> np.arange(resolution) & 1).astype(np.uint8) * np.uint8(255)
        image = np.broadcast_to(line[:, :, None], (len(indices), resolution, resolution))
        image = np.where(label[:, None, None] == 1, image.swapaxes(1, 2), image)
        return {'image': np.repeat(image[..., None], channels, -1), 'label': label.astype(np.int32)}

    identity = fingerprint.of_values(['bars', resolution, channels])
    return Source(
        f'bars/{split}',
        fields,
        count,
        rows,
        in_memory=True,
        classes=('stripes', 'bars'),
        labels=(np.arange(count) % 2).astype(np.int32),
        fingerprint=lambda: fingerprint.Fingerprint(identity),
    )
