"""Non-leaking augmentation of EDM (Karras et al. 2022, appendix F.2): random image transforms, described by numbers.

In training, the network is conditioned on the numbers. In sampling, it is conditioned on zeros, which describe an image
without a transform.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genlab.warping import interpolate, turn

NUMBERS = 9


class Motion(NamedTuple):
    """Holds the transforms of an image, in the order in which they apply. All are scalars; zeros are the identity."""

    mirrored: jax.Array  # 1: flipped left to right
    upside_down: jax.Array  # 1: flipped top to bottom
    scale: jax.Array  # magnification by 2^(0.2 scale)
    angle: jax.Array  # counter-clockwise rotation, radians
    stretch: jax.Array  # magnification by 2^(0.2 stretch) along `direction`, and by its inverse across it
    direction: jax.Array  # direction of the stretch, radians
    right: jax.Array  # translation to the right, in eighths of the width
    down: jax.Array  # translation down, in eighths of the height


def augment(images: jax.Array, keys: jax.Array, probability: float) -> tuple[jax.Array, jax.Array]:
    """Transforms every image by its own random motion.

    Each transform applies with `probability`, with two exceptions. The flip left to right has a probability of 1/2,
    unless `probability` is 0. The flip top to bottom has half of `probability`.

    Args:
        images: images [B, H, W, C].
        keys: one key per image [B].
        probability: probability of each transform, in [0, 1].

    Returns:
        The transformed images [B, H, W, C], and the numbers that describe the motions [B, 9].
    """

    def one(image: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        motion = draw(key, probability)
        return move(image, motion), describe(motion)

    return jax.vmap(one)(images, keys)


def draw(key: jax.Array, probability: float) -> Motion:
    """Draws the motion of one image (Karras et al. 2022, table 6)."""
    whether, sizes, angles = jax.random.split(key, 3)
    chance = jax.random.uniform(whether, (7,))
    scaled, turned, stretched, moved = chance[:4] < probability
    scale, stretch, right, down = jax.random.normal(sizes, (4,))
    angle, direction = jax.random.uniform(angles, (2,), minval=-math.pi, maxval=math.pi)
    mirrored, upside_down = chance[4] < (0.5 if probability else 0), chance[5] < probability / 2
    direction = jnp.where(chance[6] < 0.5, direction, 0)  # half of the stretches are along the width
    return Motion(
        1.0 * mirrored,
        1.0 * upside_down,
        scaled * scale,
        turned * angle,
        stretched * stretch,
        stretched * direction,
        moved * right,
        moved * down,
    )


def describe(motion: Motion) -> jax.Array:
    """Returns the numbers that condition the network: [9].

    A stretch and its inverse along one axis can give the same numbers, as in the paper.
    """
    return jnp.stack(
        [
            motion.mirrored,
            motion.upside_down,
            motion.scale,
            jnp.cos(motion.angle) - 1,
            jnp.sin(motion.angle),
            motion.stretch * jnp.cos(motion.direction),
            motion.stretch * jnp.sin(motion.direction),
            motion.right,
            motion.down,
        ]
    )


def move(image: jax.Array, motion: Motion) -> jax.Array:
    """Transforms an image [H, W, C] about its centre by a motion. Each pixel is read at its position before the motion.

    One cubic interpolation applies all transforms but the flips. The image is mirrored at its borders. The paper
    interpolates at twice the resolution, between the up- and downsampling filters of a wavelet. That aliases less where
    an image shrinks.
    """
    image = jnp.where(motion.mirrored > 0, image[:, ::-1], image)
    image = jnp.where(motion.upside_down > 0, image[::-1], image)
    height, width = image.shape[:2]
    centre = (height - 1) / 2, (width - 1) / 2
    y, x = jnp.meshgrid(jnp.arange(height) - centre[0], jnp.arange(width) - centre[1], indexing='ij')
    x, y = x - motion.right * width / 8, y - motion.down * height / 8
    x, y = turn(x, y, motion.direction)
    longer = 2 ** (0.2 * motion.stretch)
    x, y = turn(x / longer, y * longer, motion.angle - motion.direction)
    larger = 2 ** (0.2 * motion.scale)
    return interpolate(image, y / larger + centre[0], x / larger + centre[1])
