"""Augmentation of real and generated images in front of a discriminator, so that few images suffice.

There are two pipelines of differentiable transforms: ADA (Karras et al. 2020, "Training Generative Adversarial Networks
with Limited Data", section 2 and appendix B) and DiffAugment (Zhao et al. 2020, section 4). A transform of ADA applies
with a probability p below 1. The augmented images then determine the distribution of the images, so the augmentation
does not leak into the samples.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genlab.noise import stream
from genlab.warping import interpolate, turn

Transform = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (image [H, W, C], key, probability) -> image
QUARTERS = np.array([1.0, 0.0, -1.0, 0.0], np.float32)  # cosines of quarter turns, exactly
LUMA = np.ones(3) / math.sqrt(3)  # direction of equal red, green and blue


class Augment(NamedTuple):
    """Holds a transform of single images, and how its probability adapts."""

    transform: Transform
    probability: float = 1.0  # at the start
    target: float = 0.0  # for the mean sign of the logits of real images; 0: the probability is constant
    images: float = 500_000.0  # in which the probability could go from 0 to 1


def none() -> None:
    """Returns no augmentation."""


def ada(
    *, target: float = 0.6, images: float = 500_000.0, geometry: bool = True, color: bool = True, start: float = 0.0
) -> Augment:
    """Returns the adaptive augmentation of Karras et al. 2020.

    Args:
        target: mean sign of the real logits that the probability aims at (section 3.1).
        images: training images in which the probability could go from 0 to 1.
        geometry: whether images are scaled, rotated and moved by fractions of a pixel.
        color: whether brightness, contrast, luma, hue and saturation change.
        start: the probability at the start.
    """
    return Augment(lambda *given: _ada(*given, geometry=geometry, color=color), start, target, images)


def fixed(*, probability: float = 0.5, geometry: bool = True, color: bool = True) -> Augment:
    """Returns the transforms of `ada` with a constant probability."""
    return Augment(lambda *given: _ada(*given, geometry=geometry, color=color), probability)


def diffaugment(*, color: bool = True, translation: bool = True, cutout: bool = True) -> Augment:
    """Returns DiffAugment: its transforms apply to every image."""

    def transform(image: jax.Array, key: jax.Array, probability: jax.Array) -> jax.Array:
        del probability
        for chosen, one in ((color, _jitter), (translation, _translate), (cutout, _cut_out)):
            key, own = jax.random.split(key)
            image = one(image, own) if chosen else image
        return image

    return Augment(transform)


AUGMENTATIONS: dict[str, Callable] = {'none': none, 'ada': ada, 'fixed': fixed, 'diffaugment': diffaugment}


def apply(augment: Augment, images: jax.Array, keys: jax.Array, probability: jax.Array, name: str) -> jax.Array:
    """Transforms every image at random.

    Args:
        augment: the augmentation.
        images: images [B, H, W, C] in [-1, 1].
        keys: one key per image [B].
        probability: probability of each transform, [] in [0, 1].
        name: name of the use. Two uses draw different transforms.

    Returns:
        Images [B, H, W, C].
    """
    return jax.vmap(augment.transform, (0, 0, None))(images, stream(keys, name), probability)


class Controller(nn.Module):
    """Holds the probability p in the collection `augmentation`, equal on all devices, and adapts it.

    Every INTERVAL calls, p moves by one step up if the mean sign of the real logits since then exceeds the target, and
    down otherwise (section 3.1). The step is INTERVAL * B / `images` for a batch of B images over all devices.
    """

    start: float
    target: float
    images: float
    axis: str | None = None

    INTERVAL = 4

    @nn.compact
    def __call__(self, real_logits: jax.Array, train: bool) -> jax.Array:
        """Returns p before the update. real_logits: [B]."""
        probability = self.variable('augmentation', 'probability', jnp.full, (), self.start, jnp.float32)
        signs = self.variable('augmentation', 'signs', jnp.zeros, (), jnp.float32)
        calls = self.variable('augmentation', 'calls', jnp.zeros, (), jnp.int32)
        before = probability.value
        if train and self.target and not self.is_initializing():
            now, count = jnp.sign(jax.lax.stop_gradient(real_logits)).mean(), real_logits.shape[0]
            if self.axis is not None:
                now, count = jax.lax.pmean(now, self.axis), count * jax.lax.axis_size(self.axis)
            total, due = signs.value + now, calls.value == self.INTERVAL - 1
            step = jnp.sign(total / self.INTERVAL - self.target) * self.INTERVAL * count / self.images
            probability.value = jnp.where(due, jnp.clip(before + step, 0, 1), before)
            signs.value = jnp.where(due, 0, total)
            calls.value = jnp.where(due, 0, calls.value + 1)
        return before


class Motion(NamedTuple):
    """Holds where the pixels of an image come from. All are scalars; the defaults are the identity."""

    flip: jax.Array | float = 0.0  # 1: left to right
    quarter: jax.Array | int = 0  # quarter turns
    right: jax.Array | float = 0.0  # whole pixels
    down: jax.Array | float = 0.0  # whole pixels
    scale: jax.Array | float = 1.0  # magnification
    before: jax.Array | float = 0.0  # rotation before the stretch, radians
    stretch: jax.Array | float = 1.0  # magnification along the width, and its inverse along the height
    after: jax.Array | float = 0.0  # rotation after the stretch, radians
    shift_right: jax.Array | float = 0.0  # pixels
    shift_down: jax.Array | float = 0.0  # pixels


def draw_motion(key: jax.Array, probability: jax.Array, height: int, width: int, geometry: bool) -> Motion:
    """Draws the motion of one image: blits always, the rest if `geometry` (Karras et al. 2020, appendix B)."""
    whether, values, angles, sizes = jax.random.split(key, 4)
    chance, value = jax.random.uniform(whether, (8,)), jax.random.uniform(values, (4,))
    on = chance < probability
    rotated = 1 - jnp.sqrt(1 - jnp.clip(probability, 0, 1))  # either rotation applies with `probability`
    blits = Motion(
        jnp.where(on[0] & (value[0] < 0.5), 1.0, 0.0),
        jnp.where(on[1], jnp.floor(4 * value[1]).astype(jnp.int32), 0),
        jnp.where(on[2], jnp.round((2 * value[2] - 1) * 0.125 * width), 0.0),
        jnp.where(on[2], jnp.round((2 * value[3] - 1) * 0.125 * height), 0.0),
    )
    if not geometry:
        return blits
    angle = jax.random.uniform(angles, (2,), minval=-math.pi, maxval=math.pi)
    size = jax.random.normal(sizes, (4,))
    return blits._replace(
        scale=jnp.where(on[3], 2 ** (0.2 * size[0]), 1.0),
        before=jnp.where(chance[4] < rotated, angle[0], 0.0),
        stretch=jnp.where(on[5], 2 ** (0.2 * size[1]), 1.0),
        after=jnp.where(chance[6] < rotated, angle[1], 0.0),
        shift_right=jnp.where(on[7], 0.125 * width * size[2], 0.0),
        shift_down=jnp.where(on[7], 0.125 * height * size[3], 0.0),
    )


def move(image: jax.Array, motion: Motion) -> jax.Array:
    """Moves the pixels of an image [H, W, C], mirrored at its borders, by one cubic interpolation.

    Flips, quarter turns and whole pixels are exact. A quarter turn needs a square image.
    """
    height, width = image.shape[:2]
    centre = (height - 1) / 2, (width - 1) / 2
    y, x = jnp.meshgrid(jnp.arange(height) - centre[0], jnp.arange(width) - centre[1], indexing='ij')
    x, y = turn(x - motion.shift_right, y - motion.shift_down, jnp.asarray(motion.after))
    x, y = turn(x / motion.stretch, y * motion.stretch, jnp.asarray(motion.before))
    x, y = x / motion.scale - motion.right, y / motion.scale - motion.down
    quarters, turns = jnp.asarray(QUARTERS), jnp.asarray(motion.quarter)
    cosine, sine = quarters[turns % 4], quarters[(turns + 3) % 4]
    x, y = cosine * x - sine * y, sine * x + cosine * y
    x = jnp.where(jnp.asarray(motion.flip) > 0, -x, x)
    return interpolate(image, y + centre[0], x + centre[1])


def color_matrix(key: jax.Array, probability: jax.Array) -> jax.Array:
    """Draws the affine change of the colors of one image: [3, 4], applied to (red, green, blue, 1)."""
    whether, sizes, angles = jax.random.split(key, 3)
    chance, size = jax.random.uniform(whether, (5,)), jax.random.normal(sizes, (3,))
    brighter, contrast, flipped, turned, saturated = chance < probability
    angle, sign = jax.random.uniform(angles, (2,), minval=-1.0)
    identity, along = jnp.eye(3), jnp.asarray(np.outer(LUMA, LUMA), jnp.float32)
    scale = jnp.where(contrast, 2 ** (0.5 * size[1]), 1.0)
    shift = jnp.where(brighter, 0.2 * size[0], 0.0) * scale * jnp.ones(3)
    mirror = identity - jnp.where(flipped & (sign > 0), 2.0, 0.0) * along
    theta = jnp.where(turned, math.pi * angle, 0.0)
    cross = jnp.asarray([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], jnp.float32) / math.sqrt(3)
    hue = jnp.cos(theta) * identity + jnp.sin(theta) * cross + (1 - jnp.cos(theta)) * along
    grey = along + jnp.where(saturated, 2 ** size[2], 1.0) * (identity - along)
    matrix = grey @ hue @ mirror
    return jnp.concatenate([scale * matrix, (matrix @ shift)[:, None]], 1)


def recolor(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """Applies a change of colors [3, 4] to an image [H, W, 3] or, by its mean, to a grey one [H, W, 1]."""
    if image.shape[-1] == 3:
        # Written out, because a matrix product may have low precision.
        parts = [image[..., :1] * matrix[None, None, :, 0], image[..., 1:2] * matrix[None, None, :, 1]]
        return sum(parts) + image[..., 2:] * matrix[None, None, :, 2] + matrix[None, None, :, 3]
    factor, shift = matrix[:, :3].sum(1).mean(), matrix[:, 3].mean()
    return image * factor + shift


def _ada(image: jax.Array, key: jax.Array, probability: jax.Array, *, geometry: bool, color: bool) -> jax.Array:
    """Applies the transforms of ADA to one image [H, W, C]."""
    where, how = jax.random.split(key)
    image = move(image, draw_motion(where, probability, image.shape[0], image.shape[1], geometry))
    return recolor(image, color_matrix(how, probability)) if color and image.shape[-1] in (1, 3) else image


def _jitter(image: jax.Array, key: jax.Array) -> jax.Array:
    """Changes brightness, saturation and contrast."""
    brightness, saturation, contrast = jax.random.uniform(key, (3,))
    image = image + brightness - 0.5
    grey = image.mean(-1, keepdims=True)
    image = (image - grey) * 2 * saturation + grey
    mean = image.mean()
    return (image - mean) * (0.5 + contrast) + mean


def _translate(image: jax.Array, key: jax.Array) -> jax.Array:
    """Moves by up to an eighth of the side, and fills with zeros."""
    height, width = image.shape[:2]
    pads = [height // 8, width // 8]
    padded = jnp.pad(image, [(pads[0], pads[0]), (pads[1], pads[1]), (0, 0)])
    start = jax.random.randint(key, (2,), 0, 2 * jnp.array(pads) + 1)
    return jax.lax.dynamic_slice(padded, (start[0], start[1], 0), image.shape)


def _cut_out(image: jax.Array, key: jax.Array) -> jax.Array:
    """Sets a square of half the side to zero. Its centre is anywhere in the image."""
    height, width = image.shape[:2]
    row, column = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    rows, columns = jnp.arange(height)[:, None] - row, jnp.arange(width)[None] - column
    inside = (rows >= -(height // 4)) & (rows < height // 4) & (columns >= -(width // 4)) & (columns < width // 4)
    return jnp.where(inside[..., None], 0, image)
