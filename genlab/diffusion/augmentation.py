"""EDM's augmentation that does not leak (Karras et al. 2022, appendix F.2): images transformed at random, and numbers that say how.

The network is conditioned on the numbers in training, and at sampling on zeros, an untouched image."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

NUMBERS = 9


class Motion(NamedTuple):
    """What happens to an image, in this order; scalars, all 0 for nothing."""

    mirrored: jax.Array  # 1: left to right
    upside_down: jax.Array  # 1: the top at the bottom
    scale: jax.Array  # larger by 2^(0.2 scale)
    angle: jax.Array  # turned counter-clockwise, in radians
    stretch: jax.Array  # longer by 2^(0.2 stretch) along a direction, and shorter across it
    direction: jax.Array  # in radians
    right: jax.Array  # moved, in eighths of the width
    down: jax.Array  # and of the height


def augment(images: jax.Array, keys: jax.Array, probability: float) -> tuple[jax.Array, jax.Array]:
    """(images [B, H, W, C] after a motion each, the numbers that tell the motions [B, 9]), by one key an image [B].

    Each part of a motion happens with `probability`; of all images half are mirrored, unless `probability` is 0."""

    def one(image, key):
        motion = draw(key, probability)
        return move(image, motion), describe(motion)

    return jax.vmap(one)(images, keys)


def draw(key: jax.Array, probability: float) -> Motion:
    """The motion of one image (Karras et al. 2022, table 6)."""
    whether, sizes, angles = jax.random.split(key, 3)
    chance = jax.random.uniform(whether, (7,))
    scaled, turned, stretched, moved = chance[:4] < probability
    scale, stretch, right, down = jax.random.normal(sizes, (4,))
    angle, direction = jax.random.uniform(angles, (2,), minval=-math.pi, maxval=math.pi)
    mirrored, upside_down = chance[4] < (0.5 if probability else 0), chance[5] < probability / 2
    direction = jnp.where(chance[6] < 0.5, direction, 0)  # half of them along the width
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
    """Returns the numbers that condition the network: [9]. Longer and shorter along a direction sound the same, as in the paper."""
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
    """An image [H, W, C] after its motion, about its centre: every pixel is looked up where it was before.

    One cubic interpolation of all parts but the flips; what lies outside is the mirror image. The paper does it at twice the
    resolution, between a wavelet's filters up and down, which aliases less where images become smaller."""
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


def turn(x: jax.Array, y: jax.Array, angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Places turned from the first axis to the second; written out, since products of matrices may be of low precision."""
    return jnp.cos(angle) * x - jnp.sin(angle) * y, jnp.sin(angle) * x + jnp.cos(angle) * y


def interpolate(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """An image [H, W, C] at places [h, w] in pixels, by cubic convolution with mirrored borders: [h, w, C] (Keys 1981).

    Exact at whole pixels, and everywhere for a quadratic inside."""
    (row, by_row), (column, by_column) = (neighbours(*places) for places in zip((rows, columns), image.shape))
    values = image[row[..., :, None], column[..., None, :]]  # [h, w, 4, 4, C]
    return jnp.sum(by_row[..., :, None, None] * by_column[..., None, :, None] * values, (2, 3))


def neighbours(places: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """(the four whole numbers around each place [h, w], as indices of `size` pixels; their weights): [h, w, 4] each."""
    near = jnp.floor(places)[..., None] + jnp.arange(-1.0, 3.0)[None, None]
    indices = (size - 1) - jnp.abs((size - 1) - near.astype(jnp.int32) % (2 * (size - 1)))
    return indices, cubic(jnp.abs(places[..., None] - near))


def cubic(distance: jax.Array) -> jax.Array:
    """The weight of a pixel at a distance of up to 2 pixels (Keys 1981, equation 15)."""
    inside = (1.5 * distance - 2.5) * distance**2 + 1
    outside = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return jnp.where(distance < 1, inside, outside)
