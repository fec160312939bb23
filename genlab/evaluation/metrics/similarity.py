"""Similarity of two images: peak signal-to-noise ratio, and structural similarity at one scale and at several.

Images are [N, H, W, C], float in [-1, 1], a range of 2. The papers define structural similarity for grey images; each
colour channel is treated as a grey image, and the channels are averaged. All sums are in float64.
"""

from collections.abc import Callable

import numpy as np

WINDOW, SIGMA = 11, 1.5  # pixels
K1, K2, RANGE = 0.01, 0.03, 2.0
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # at 1, 1/2, ... 1/16 of the resolution
BLOCK_ELEMENTS = 1 << 20  # numbers per block of images: a block that fits the cache is fastest


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the peak signal-to-noise ratio, 10 log10( 2^2 / mean (a - b)^2 ), the mean over pixels and channels.

    a, b: [N, H, W, C], [-1, 1]. Returns [N], decibels; infinite for equal images.

    >>> black = np.full((1, 8, 8, 1), -1.0)
    >>> psnr(black, black + 0.2).round(6).tolist()  # 10 log10(4 / 0.04)
    [20.0]
    """
    squared = np.square(np.subtract(a, b, dtype=np.float64)).mean((1, 2, 3))
    with np.errstate(divide='ignore'):
        return 10 * np.log10(RANGE**2 / squared)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns structural similarity: 1 for equal images, about 0 for unrelated ones.

    SSIM = mean over windows of (2 m_a m_b + c1) / (m_a^2 + m_b^2 + c1) (2 s_ab + c2) / (s_a^2 + s_b^2 + c2). c1 = (0.01
    x 2)^2 and c2 = (0.03 x 2)^2 (Wang et al. 2004, section 3.3, equation 13). Means and variances are weighted by a
    Gaussian, 11 x 11 with sigma 1.5; windows lie within the image. If a side has fewer than 11 pixels, the largest odd
    window that fits is used.

    a, b: [N, H, W, C], [-1, 1]. Returns [N] in [-1, 1].
    """
    return _in_blocks(lambda a, b: np.prod(_terms(a, b), 0).mean((1, 2, 3)), a, b)


def ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns multi-scale structural similarity; each scale has half the resolution of the previous one.

    MS-SSIM = (l_M cs_M)^w_M prod_{j < M} cs_j^w_j (Wang et al. 2003, section 3.2, equation 7). cs_j is the mean over
    windows of SSIM's second factor at scale j, and l cs the mean of the product with the first; scales are halved by 2
    x 2 means. A negative mean counts as zero. The paper has five scales; a small image has the first `scales(H, W)`,
    with weights rescaled to the same sum. So values compare only between images of equal size.

    a, b: [N, H, W, C], [-1, 1]. Returns [N] in [0, 1].
    """
    return _in_blocks(_multiscale, a, b)


def scales(height: int, width: int) -> int:
    """Returns the number of scales, 1 to 5, at which a window of 11 pixels fits: 5 from 176 pixels, 2 at 32."""
    return 1 + sum(min(height, width) >> halvings >= WINDOW for halvings in range(1, len(SCALE_WEIGHTS)))


def within_class_ms_ssim(
    images: np.ndarray, labels: np.ndarray, *, pairs: int = 100, seed: int = 0
) -> tuple[float, dict[int, float]]:
    """Returns the mean MS-SSIM between images of the same class: higher means less varied, 1 a single image per class.

    It is the mean over random pairs of different images (Odena et al. 2017, section 4.2, with 100 pairs). The paper
    compares it with the training data, at the same resolution. Classes with fewer than two images are left out.

    Args:
      images: [N, H, W, C], [-1, 1].
      labels: integers, [N].
      pairs: per class.
      seed: seed of the pairs.

    Returns:
      (mean over classes, {class: mean over its pairs}); (nan, {}) without pairs.
    """
    random = np.random.default_rng(seed)
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    classes: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            one = random.integers(len(members), size=pairs)
            other = (one + random.integers(1, len(members), size=pairs)) % len(members)
            first.append(members[one])
            second.append(members[other])
            classes.append(int(label))
    if not classes:
        return float('nan'), {}
    values = ms_ssim(images[np.concatenate(first)], images[np.concatenate(second)]).reshape(len(classes), pairs).mean(1)
    return float(values.mean()), dict(zip(classes, map(float, values)))


def _in_blocks(measure: Callable, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Applies `measure` to [N, C, H, W] in float64, one block of images at a time: [N, H, W, C] -> [N]."""
    if a.shape != b.shape:
        raise ValueError(f'images of two shapes: {a.shape} and {b.shape}')
    block = max(1, BLOCK_ELEMENTS // a[0].size)
    ordered = lambda images: np.ascontiguousarray(np.moveaxis(images, -1, 1), np.float64)
    return np.concatenate(
        [
            measure(ordered(a[first : first + block]), ordered(b[first : first + block]))
            for first in range(0, len(a), block)
        ]
    )


def _multiscale(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns MS-SSIM: [N, C, H, W] -> [N]."""
    count = scales(*a.shape[2:])
    weights = np.multiply(SCALE_WEIGHTS[:count], sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:count]))
    product = np.ones(a.shape[:2])
    for scale, weight in enumerate(weights):
        luminance, structure = _terms(a, b)
        mean = (structure * luminance if scale == count - 1 else structure).mean((2, 3))
        product = product * np.maximum(mean, 0) ** weight
        a, b = _half(a), _half(b)
    return product.mean(1)


def _terms(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the factors of SSIM per window, luminance and contrast-structure: [N, C, H, W] -> 2 x [N, C, h, w]."""
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    squares, product = mean_a * mean_a + mean_b * mean_b, mean_a * mean_b
    luminance = (2 * product + c1) / (squares + c1)
    structure = (2 * (_blur(a * b) - product) + c2) / (_blur(a * a + b * b) - squares + c2)
    return luminance, structure


def _blur(images: np.ndarray) -> np.ndarray:
    """Returns the Gaussian mean of each window within the image: [N, C, H, W] -> [N, C, H - 10, W - 10]."""
    from scipy.ndimage import correlate1d

    for axis in (2, 3):
        side = images.shape[axis]
        reach = (min(WINDOW, side) - 1) // 2
        weights = np.exp(-np.square(np.arange(-reach, reach + 1) / SIGMA) / 2)
        images = correlate1d(images, weights / weights.sum(), axis).take(np.arange(reach, side - reach), axis)
    return images


def _half(images: np.ndarray) -> np.ndarray:
    """Averages 2 x 2 pixels, without an odd last row or column: [N, C, H, W] -> [N, C, H // 2, W // 2]."""
    number, colours, height, width = images.shape
    images = images[:, :, : height // 2 * 2, : width // 2 * 2]
    return images.reshape(number, colours, height // 2, 2, width // 2, 2).mean((3, 5))
