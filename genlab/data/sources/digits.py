"""Loads the 1,797 handwritten digits of scikit-learn (UCI optical recognition of digits), without a download."""

import numpy as np

from genlab.data.images import resize, to_channels
from genlab.data.source import Source, from_arrays, image_field, label_field

TEST = 297  # examples held out: the last ones in a fixed permutation


def digits(resolution: int = 32, channels: int = 1, split: str = 'train') -> Source:
    """Returns 1,500 training or 297 test digits, with `image` uint8 [R, R, C] and `label` int32 0..9.

    The originals are 8x8 with values 0..16. They are rescaled to 0..255 (v * 255 / 16, rounded) and enlarged
    bilinearly.

    Args:
        resolution: R, pixels per side.
        channels: C, 1 or 3.
        split: 'train' or 'test'.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    chosen = order[-TEST:] if split == 'test' else order[:-TEST]
    small = np.rint(data.images[chosen] * (255 / 16)).astype(np.uint8)[..., None]
    images = np.stack([resize(image, resolution) for image in small])
    arrays = {'image': to_channels(images, channels), 'label': data.target[chosen].astype(np.int32)}
    fields = {'image': image_field(resolution, channels), 'label': label_field(10)}
    return from_arrays(f'digits/{split}', arrays, fields, classes=tuple('0123456789'))
