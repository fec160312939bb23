"""Classical filters against noise, with their parameters tuned: what a denoising network must be better than.

Images are float [N, H, W, C] in [-1, 1]; every channel is filtered by itself.
"""

import functools
from collections.abc import Callable

import numpy as np

Filter = Callable[[np.ndarray], np.ndarray]


def gaussian(images: np.ndarray, *, sigma: float) -> np.ndarray:
    """Convolved with a Gaussian of a standard deviation in pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, (0, sigma, sigma, 0))


def median(images: np.ndarray, *, size: int) -> np.ndarray:
    """The median of the size x size pixels around each."""
    from scipy.ndimage import median_filter

    return median_filter(images, (1, size, size, 1))


def total_variation(images: np.ndarray, *, weight: float, steps: int = 100) -> np.ndarray:
    """The image u next to the noisy image f that has little total variation.

    u = argmin 1/2 ||u - f||^2 + weight sum |grad u| (Rudin, Osher & Fatemi 1992), by Chambolle 2004, equation 9, on the dual:
    p <- (p + tau grad(div p - f / weight)) / (1 + tau |grad(div p - f / weight)|), u = f - weight div p, with tau = 1/4, which
    converges in practice. weight: in the units of the images, about the standard deviation of the noise."""
    dual = np.zeros((2, *images.shape), images.dtype)
    for _ in range(steps):
        slope = _gradient(_divergence(dual) - images / weight)
        dual = (dual + slope / 4) / (1 + np.sqrt(np.square(slope).sum(0)) / 4)
    return images - weight * _divergence(dual)


def _gradient(images):
    """Differences to the next pixel down and to the right, zero at the border: [N, H, W, C] -> [2, N, H, W, C]."""
    slope = np.zeros((2, *images.shape), images.dtype)
    slope[0, :, :-1] = images[:, 1:] - images[:, :-1]
    slope[1, :, :, :-1] = images[:, :, 1:] - images[:, :, :-1]
    return slope


def _divergence(dual):
    """The negative adjoint of `_gradient`, for duals that are zero at the border as gradients are."""
    divergence = dual[0] + dual[1]
    divergence[:, 1:] -= dual[0, :, :-1]
    divergence[:, :, 1:] -= dual[1, :, :, :-1]
    return divergence


GRID = {
    'gaussian': (gaussian, 'sigma', (0.3, 0.5, 0.7, 0.9, 1.2, 1.6)),
    'median': (median, 'size', (3, 5)),
    'total_variation': (total_variation, 'weight', (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)),
}


def tuned(noisy: np.ndarray, clean: np.ndarray) -> dict[str, Filter]:
    """{name: filter} with the parameter of GRID whose PSNR on training pairs is highest (`.keywords` of the filter says
    which)."""
    found = {}
    for name, (function, parameter, values) in GRID.items():
        choices = {str(value): functools.partial(function, **{parameter: value}) for value in values}
        found[name] = choices[best(choices, noisy, clean)]
    return found


def best(filters: dict[str, Filter], noisy: np.ndarray, clean: np.ndarray) -> str:
    """The name of the filter whose mean PSNR on pairs of images is highest."""
    return max(filters, key=lambda name: _psnr(filters[name](noisy), clean).mean())


def _psnr(a, b):
    """10 log10(range^2 / mean squared error) for the range 2 of [-1, 1]: [N, ...] -> [N], decibels."""
    return 10 * np.log10(4 / np.maximum(np.square(np.float64(a) - b).mean(tuple(range(1, a.ndim))), 1e-12))
