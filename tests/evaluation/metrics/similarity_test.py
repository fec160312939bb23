"""Tests the similarity of images against the definitions of the papers, written as loops over windows."""

import numpy as np
import pytest

from genlab.evaluation.metrics import similarity


def images(seed, shape=(3, 16, 13, 2)):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def textbook(a, b, window=11):
    """Returns luminance, and contrast times structure, per window (Wang et al. 2004, equations 6 to 10)."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = 0.02**2, 0.06**2
    luminance, structure = [], []
    for top in range(a.shape[0] - window + 1):
        for left in range(a.shape[1] - window + 1):
            x, y = (image[top : top + window, left : left + window].astype(np.float64) for image in (a, b))
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            deviation_x = np.sqrt((weights * (x - mean_x) ** 2).sum())
            deviation_y = np.sqrt((weights * (y - mean_y) ** 2).sum())
            covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
            contrast = (2 * deviation_x * deviation_y + c2) / (deviation_x**2 + deviation_y**2 + c2)
            luminance.append((2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1))
            structure.append(contrast * (covariance + c2 / 2) / (deviation_x * deviation_y + c2 / 2))
    return np.array(luminance), np.array(structure)


@pytest.mark.parametrize('shape, window', [((3, 16, 13, 2), 11), ((2, 11, 12, 1), 11), ((2, 8, 8, 1), 7)])
def test_ssim_agrees_with_the_definition(shape, window, monkeypatch):
    monkeypatch.setattr(similarity, 'BLOCK_ELEMENTS', 1000)  # several blocks
    a = images(0, shape)
    b = np.clip(a + 0.3 * images(1, shape), -1, 1)
    grey = lambda x, y: np.prod(textbook(x, y, window), 0).mean()
    expected = [np.mean([grey(x[..., c], y[..., c]) for c in range(shape[-1])]) for x, y in zip(a, b)]
    np.testing.assert_allclose(similarity.ssim(a, b), expected, rtol=1e-10)


def test_ms_ssim_is_the_product_of_the_paper():
    """Uses two scales of a small image: structure at both, luminance at the last, weights of the published ratio."""
    a = images(0, (2, 24, 23, 1))
    b = np.clip(a + 0.5 * images(1, a.shape), -1, 1)
    assert similarity.scales(24, 23) == 2
    weights = np.array([0.0448, 0.2856]) * 1.0001 / (0.0448 + 0.2856)
    half = lambda image: (image[::2, :-1:2] + image[1::2, :-1:2] + image[::2, 1::2] + image[1::2, 1::2]) / 4
    for x, y, value in zip(a[..., 0].astype(np.float64), b[..., 0].astype(np.float64), similarity.ms_ssim(a, b)):
        full, last = textbook(x, y)[1].mean(), np.prod(textbook(half(x), half(y)), 0).mean()
        np.testing.assert_allclose(value, full ** weights[0] * last ** weights[1], rtol=1e-10)


def test_scales():
    sides = {8: 1, 11: 1, 21: 1, 22: 2, 32: 2, 64: 3, 88: 4, 175: 4, 176: 5, 1024: 5}
    assert {side: similarity.scales(side, 2000) for side in sides} == sides


@pytest.mark.parametrize('measure', [similarity.ssim, similarity.ms_ssim])
def test_invariants(measure):
    a, b = images(0, (4, 32, 32, 3)), images(1, (4, 32, 32, 3))
    np.testing.assert_allclose(measure(a, a), 1, rtol=1e-12)
    np.testing.assert_allclose(measure(a, b), measure(b, a), rtol=1e-12)
    np.testing.assert_allclose(measure(a, b)[::-1], measure(a[::-1], b[::-1]), rtol=1e-12)
    np.testing.assert_allclose(measure(a, b), measure(a.swapaxes(1, 2), b.swapaxes(1, 2)), rtol=1e-12)
    noises = [measure(a, np.clip(a + scale * b, -1, 1)).mean() for scale in (0.1, 0.3, 1)]
    assert 1 > noises[0] > noises[1] > noises[2] > 0
    assert np.isfinite(measure(a, -a)).all()  # negative structure has no power of 0.3
    with pytest.raises(ValueError, match='two shapes'):
        measure(a, b[:, :16])


def test_flat_images():
    """Expects the luminance alone, (2 x y + c1) / (x^2 + y^2 + c1), without variance."""
    x, y = np.full((1, 12, 12, 1), 0.5), np.full((1, 12, 12, 1), -0.1)
    np.testing.assert_allclose(similarity.ssim(x, y), (2 * 0.5 * -0.1 + 4e-4) / (0.25 + 0.01 + 4e-4), rtol=1e-10)


def test_psnr():
    a = images(0)
    np.testing.assert_allclose(similarity.psnr(a, a + np.float32(0.2)), 20, rtol=1e-5)  # 20 log10(2 / 0.2)
    expected = 20 * np.log10(2 / np.sqrt([np.mean((np.float64(x) - y) ** 2) for x, y in zip(a, images(1))]))
    np.testing.assert_allclose(similarity.psnr(a, images(1)), expected)
    assert similarity.psnr(a, a).tolist() == [np.inf] * 3


def test_within_class_similarity():
    """Covers classes of one repeated image, of noise, of two images, and of one image, which has no pairs."""
    many = images(0, (43, 16, 16, 1))
    many[:20] = many[0]
    labels = np.array([0] * 20 + [1] * 20 + [5] * 2 + [7])
    order = np.random.default_rng(0).permutation(43)
    mean, classes = similarity.within_class_ms_ssim(many[order], labels[order], pairs=30)
    assert set(classes) == {0, 1, 5} and mean == pytest.approx(np.mean(list(classes.values())))
    assert classes[0] == pytest.approx(1) and classes[1] < 0.2
    assert classes[5] == pytest.approx(similarity.ms_ssim(many[40:41], many[41:42])[0])  # no pair with itself
    assert np.isnan(similarity.within_class_ms_ssim(many[:1], labels[:1])[0])
