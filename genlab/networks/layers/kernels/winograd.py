"""3x3 convolutions in 16 multiplications for each 2x2 pixels rather than 36: F(2x2, 3x3) of Winograd (Lavin & Gray 2016).

Section 4.1 there: Y = A'[(G g G') * (B' d B)]A for every 4x4 pixels d, two apart, of the padded image. Each transform is one of
rows and then one of columns; sums over channels are one dot for each of the 16 places. With halves as the only factors the
result is as exact as a plain convolution's.
"""

import jax
import jax.numpy as jnp
from jax import lax

SIDE, CHANNELS = (
    16,
    128,
)  # from which on it is faster than XLA's own loop on a CPU: below, transforms cost more than they save


def pays(shape: tuple[int, ...], kernel: tuple[int, ...], dtype: jnp.dtype) -> bool:
    """Whether images of this shape [B, H, W, I] and a kernel [3, 3, I, O] are better convolved so. bfloat16 is too coarse."""
    return (
        min(kernel[2:]) >= CHANNELS
        and dtype == jnp.float32
        and all(side >= SIDE and side % 2 == 0 for side in shape[1:3])
    )


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves images [B, H, W, I] of even sides with a kernel [3, 3, I, O], strides 1 and padding 'SAME'."""
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [_pixels(*_tiles(row, 2)) for row in _pixels(*_tiles(x, 1))]
    kernels = [_kernel(*row) for row in zip(*(_kernel(*column) for column in kernel.swapaxes(0, 1)))]
    products = [
        [lax.dot(pixels.reshape(-1, channels), one) for pixels, one in zip(*pair)] for pair in zip(places, kernels)
    ]
    columns = zip(*(_output(*row) for row in products))
    y = jnp.stack([jnp.stack(_output(*column)) for column in columns])  # [2 (column), 2 (row), B H/2 W/2, O]
    y = y.reshape(2, 2, batch, height // 2, width // 2, -1).transpose(2, 3, 1, 4, 0, 5)
    return y.reshape(batch, height, width, -1)


def _tiles(x, axis):
    """The four pixels of each tile along an axis, two apart."""
    return [lax.slice_in_dim(x, first, x.shape[axis] - 3 + first, 2, axis) for first in range(4)]


def _pixels(d0, d1, d2, d3):
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


def _kernel(g0, g1, g2):
    return g0, (g0 + g2 + g1) / 2, (g0 + g2 - g1) / 2, g2


def _output(m0, m1, m2, m3):
    return m0 + m1 + m2, m1 - m2 - m3
