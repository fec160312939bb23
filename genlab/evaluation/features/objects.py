"""Crops of the objects of images, to classify them one by one."""

import dataclasses
import functools

import jax
import numpy as np

from genlab.data import Source, fingerprint
from genlab.data.source import image_field, label_field
from genlab.networks.layout.boxes import align

SIDE = 16  # pixels per side of a crop
BLOCK = 128  # images that are cropped at a time
VERSION = 1  # version of `crops` and of the choice in `single`


def crops(images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Crops each box of each image, and resizes it to SIDE x SIDE pixels.

    Args:
        images: images [N, H, W, C], N > 0.
        boxes: boxes [N, M, 4], (x0, y0, x1, y1) in [0, 1]. The crop of an absent box, all zeros, means nothing.

    Returns:
        Crops, float32 [N, M, SIDE, SIDE, C], in the range of the images.
    """
    found = []
    for first in range(0, len(images), BLOCK):
        chosen = np.resize(np.arange(first, min(first + BLOCK, len(images))), BLOCK)  # one shape is compiled
        found.append(np.asarray(_crop(np.asarray(images[chosen], np.float32), np.asarray(boxes[chosen], np.float32))))
    return np.concatenate(found)[: len(images)]


@jax.jit
def _crop(images: jax.Array, boxes: jax.Array) -> jax.Array:
    return align(images, boxes, SIDE, offset=0.5)


def single(whole: Source) -> Source:
    """Returns a source of crops: one object of each image with its class.

    Image i gives its object i modulo the number of its objects.

    Args:
        whole: images with the fields `image`, `boxes` and `box_classes`; each has one object at least, and these come
            before the absent ones.

    Returns:
        A source with the fields `image`, uint8 [SIDE, SIDE, C], and `label`.
    """

    def rows(indices: np.ndarray) -> dict[str, np.ndarray]:
        found = whole.rows(indices)
        slots = np.asarray(indices) % np.maximum((found['box_classes'] >= 0).sum(1), 1)
        every = np.arange(len(slots))
        boxes, labels = found['boxes'][every, slots], found['box_classes'][every, slots]
        cut = crops(found['image'], boxes[:, None])[:, 0]
        return {'image': np.round(np.clip(cut, 0, 255)).astype(np.uint8), 'label': labels.astype(np.int32)}

    digest = functools.partial(fingerprint.of, whole)
    return dataclasses.replace(
        whole,
        name=f'objects of {whole.name}',
        fields={
            'image': image_field(SIDE, whole.fields['image'].shape[2]),
            'label': label_field(int(whole.fields['box_classes'].high) + 1),
        },
        rows=rows,
        in_memory=False,
        labels=None,
        captions=None,
        vocabulary=(),
        on_demand=(),
        fingerprint=lambda: fingerprint.Fingerprint(fingerprint.of_values(['objects', VERSION, SIDE, digest().digest])),
    )
