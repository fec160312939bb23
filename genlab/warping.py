"""Moves the pixels of images: rotations of positions, and cubic interpolation with mirrored borders."""

import jax
import jax.numpy as jnp


def turn(x: jax.Array, y: jax.Array, angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rotates positions from the first axis towards the second.

    The product is written out, because a matrix product may have low precision.

    Args:
        x: first coordinates, of any shape.
        y: second coordinates, of the shape of x.
        angle: angle of the rotation [], radians.

    Returns:
        The coordinates (x, y) after the rotation.
    """
    return jnp.cos(angle) * x - jnp.sin(angle) * y, jnp.sin(angle) * x + jnp.cos(angle) * y


def interpolate(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Interpolates an image by cubic convolution with mirrored borders (Keys 1981).

    It is exact at whole pixels. Away from the borders it is exact everywhere for a quadratic image.

    Args:
        image: image [H, W, C].
        rows: row positions [h, w], in pixels.
        columns: column positions [h, w], in pixels.

    Returns:
        Values [h, w, C].
    """
    (row, by_row), (column, by_column) = (neighbours(*places) for places in zip((rows, columns), image.shape))
    values = image[row[..., :, None], column[..., None, :]]  # [h, w, 4, 4, C]
    return jnp.sum(by_row[..., :, None, None] * by_column[..., None, :, None] * values, (2, 3))


def neighbours(places: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Finds the four pixels around each position of an axis of `size` pixels.

    places: positions [h, w], in pixels. Returns the indices [h, w, 4] of the pixels, mirrored at the borders, and their
    weights [h, w, 4].
    """
    near = jnp.floor(places)[..., None] + jnp.arange(-1.0, 3.0)[None, None]
    indices = (size - 1) - jnp.abs((size - 1) - near.astype(jnp.int32) % (2 * (size - 1)))
    return indices, cubic(jnp.abs(places[..., None] - near))


def cubic(distance: jax.Array) -> jax.Array:
    """Computes the weight of a pixel at a distance in [0, 2] pixels (Keys 1981, equation 15)."""
    inside = (1.5 * distance - 2.5) * distance**2 + 1
    outside = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return jnp.where(distance < 1, inside, outside)
