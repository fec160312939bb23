"""3x3 convolutions with 16 instead of 36 multiplications per 2x2 pixels: Winograd's F(2x2, 3x3) (Lavin & Gray 2016).

Section 4.1 of the paper: Y = A'[(G g G') * (B' d B)]A for each 4x4 tile d of the padded image, at a stride of two
pixels. Each transform is applied to rows and then to columns. Sums over channels are one dot per place, 16 in total.
The only factors are halves, so the result is as accurate as a plain convolution.
"""

import jax
import jax.numpy as jnp
from jax import lax

# Smallest side and number of channels for which this is faster than XLA's own loop on a CPU. Below them, the transforms
# cost more than they save.
SIDE, CHANNELS = 16, 128


def is_faster(output: tuple[int, int], kernel: tuple[int, ...], dtype: jnp.dtype) -> bool:
    """Tells whether this algorithm is faster and accurate enough. It is too inaccurate in bfloat16.

    Args:
        output: height and width of the result.
        kernel: shape [3, 3, I, O] of the kernel.
        dtype: type of the images.
    """
    return (
        min(kernel[2:]) >= CHANNELS and dtype == jnp.float32 and all(side >= SIDE and side % 2 == 0 for side in output)
    )


def convolve(x: jax.Array, kernel: jax.Array, padding: tuple[tuple[int, int], ...] = ((1, 1), (1, 1))) -> jax.Array:
    """Convolves images with stride 1.

    Args:
        x: images [B, H, W, I].
        kernel: kernel [3, 3, I, O].
        padding: zeros before and after height and width. The sides of the result must be even.

    Returns:
        Images [B, H', W', O].
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    batch, channels, (height, width) = x.shape[0], x.shape[3], (side - 2 for side in x.shape[1:3])
    places = [_pixels(*_tiles(row, 2)) for row in _pixels(*_tiles(x, 1))]
    kernels = [_kernel(*row) for row in zip(*(_kernel(*column) for column in kernel.swapaxes(0, 1)))]
    products = [
        [lax.dot(pixels.reshape(-1, channels), one) for pixels, one in zip(*pair)] for pair in zip(places, kernels)
    ]
    columns = zip(*(_output(*row) for row in products))
    y = jnp.stack([jnp.stack(_output(*column)) for column in columns])  # [2 (column), 2 (row), B H/2 W/2, O]
    y = y.reshape(2, 2, batch, height // 2, width // 2, -1).transpose(2, 3, 1, 4, 0, 5)
    return y.reshape(batch, height, width, -1)


def _tiles(x: jax.Array, axis: int) -> list[jax.Array]:
    """Returns the four pixels of each tile along an axis. Tiles start two pixels apart."""
    return [lax.slice_in_dim(x, first, x.shape[axis] - 3 + first, 2, axis) for first in range(4)]


def _pixels(d0: jax.Array, d1: jax.Array, d2: jax.Array, d3: jax.Array) -> tuple[jax.Array, ...]:
    """Applies the transform B' of the image along one axis."""
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


def _kernel(g0: jax.Array, g1: jax.Array, g2: jax.Array) -> tuple[jax.Array, ...]:
    """Applies the transform G of the kernel along one axis."""
    return g0, (g0 + g2 + g1) / 2, (g0 + g2 - g1) / 2, g2


def _output(m0: jax.Array, m1: jax.Array, m2: jax.Array, m3: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Applies the inverse transform A' along one axis."""
    return m0 + m1 + m2, m1 - m2 - m3
