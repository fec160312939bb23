"""Classical denoising filters with tuned parameters: the baseline of a denoising network.

Images are float [N, H, W, C] in [-1, 1]; each channel is filtered separately.
"""

import functools
from collections.abc import Callable

import numpy as np

Filter = Callable[[np.ndarray], np.ndarray]  # noisy -> denoised, [N, H, W, C]


def gaussian(images: np.ndarray, *, sigma: float) -> np.ndarray:
    """Convolves images with a Gaussian; sigma: its standard deviation in pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, (0, sigma, sigma, 0))


def median(images: np.ndarray, *, size: int) -> np.ndarray:
    """Replaces each pixel by the median of a window; size: its side in pixels."""
    from scipy.ndimage import median_filter

    return median_filter(images, (1, size, size, 1))


def total_variation(images: np.ndarray, *, weight: float, steps: int = 100) -> np.ndarray:
    """Denoises images by a penalty on total variation.

    u = argmin 1/2 ||u - f||^2 + weight sum |grad u| (Rudin, Osher & Fatemi 1992), solved on the dual by Chambolle 2004,
    equation 9: p <- (p + tau grad(div p - f / weight)) / (1 + tau |grad(div p - f / weight)|), u = f - weight div p.
    The step size is tau = 1/4, which converges in practice.

    Args:
      images: [N, H, W, C], noisy.
      weight: in units of the images, about the standard deviation of the noise.
      steps: iterations.
    """
    dual = np.zeros((2, *images.shape), images.dtype)
    for _ in range(steps):
        slope = _gradient(_divergence(dual) - images / weight)
        dual = (dual + slope / 4) / (1 + np.sqrt(np.square(slope).sum(0)) / 4)
    return images - weight * _divergence(dual)


def _gradient(images: np.ndarray) -> np.ndarray:
    """Returns differences to the pixels below and right, zero at the border: [N, H, W, C] -> [2, N, H, W, C]."""
    slope = np.zeros((2, *images.shape), images.dtype)
    slope[0, :, :-1] = images[:, 1:] - images[:, :-1]
    slope[1, :, :, :-1] = images[:, :, 1:] - images[:, :, :-1]
    return slope


def _divergence(dual: np.ndarray) -> np.ndarray:
    """Returns the negative adjoint of `_gradient`; the dual must be zero at the border."""
    divergence = dual[0] + dual[1]
    divergence[:, 1:] -= dual[0, :, :-1]
    divergence[:, :, 1:] -= dual[1, :, :, :-1]
    return divergence


GRID: dict[str, tuple[Callable, str, tuple[float, ...]]] = {  # name -> filter, its parameter, values to try
    'gaussian': (gaussian, 'sigma', (0.3, 0.5, 0.7, 0.9, 1.2, 1.6)),
    'median': (median, 'size', (3, 5)),
    'total_variation': (total_variation, 'weight', (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)),
}


def tuned(noisy: np.ndarray, clean: np.ndarray) -> dict[str, Filter]:
    """Returns {name: filter} with the parameters of GRID that have the highest PSNR on training pairs.

    The parameter is in `.keywords` of a filter.
    """
    filters: dict[str, Filter] = {}
    for name, (function, parameter, values) in GRID.items():
        choices: dict[str, Filter] = {str(value): functools.partial(function, **{parameter: value}) for value in values}
        filters[name] = choices[best(choices, noisy, clean)]
    return filters


def best(filters: dict[str, Filter], noisy: np.ndarray, clean: np.ndarray) -> str:
    """Returns the name of the filter with the highest mean PSNR.

    Args:
      filters: {name: filter}.
      noisy, clean: [N, H, W, C].
    """
    return max(filters, key=lambda name: _psnr(filters[name](noisy), clean).mean())


def _psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns 10 log10(2^2 / mean squared error) for images in [-1, 1]: [N, ...] -> [N], decibels."""
    return 10 * np.log10(4 / np.maximum(np.square(np.float64(a) - b).mean(tuple(range(1, a.ndim))), 1e-12))
