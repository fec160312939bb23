"""Measures of codes: what labels and clusters they predict, active units, their span, and codebook usage.

Codes are float [N, D], one row per example, flattened by the caller. Everything is fitted to the codes of training
examples, by scikit-learn. The baseline for the codes of a network is PCA with the same number of components.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from genlab.errors import ConfigError, UserError

BLOCK = 8192  # examples converted to float64 at a time
MAPPED = 5000  # examples on a map: t-SNE takes 30 seconds for this number on two cores


def linear_probe(
    train_codes: np.ndarray, train_labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray
) -> float:
    """Returns the test accuracy of a linear classifier on codes (Alain & Bengio 2017, section 3).

    Args:
      train_codes, test_codes: [N, D] and [M, D].
      train_labels, test_labels: integers, [N] and [M].

    Returns:
      The accuracy in [0, 1]. The classifier is scikit-learn's logistic regression (C = 1) on standardised codes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, tol=1e-3))
    probe.fit(np.asarray(train_codes, np.float64), train_labels)
    return float(probe.score(np.asarray(test_codes, np.float64), test_labels))


def clusters(codes: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Returns how well k-means with one cluster per class recovers the classes.

    The best of four initialisations is used; codes are not standardised.

    Args:
      codes: [N, D].
      labels: integers, [N].
      seed: seed of the initialisations.

    Returns:
      `nmi`: the mutual information of clusters and classes, divided by the mean of their entropies.
      `ari`: the adjusted Rand index (Hubert & Arabie 1985, equation 5): 1 for agreement, about 0 for random clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    assigned = KMeans(len(np.unique(labels)), n_init=4, random_state=seed).fit_predict(np.float64(codes))
    return {
        'nmi': float(normalized_mutual_info_score(labels, assigned)),
        'ari': float(adjusted_rand_score(labels, assigned)),
    }


def active_units(codes: np.ndarray, *, threshold: float = 0.01) -> tuple[int, int]:
    """Returns (the number of active units of a variational code, the number of units).

    A unit is active if Var_x(E[z | x]) > `threshold` (Burda et al. 2016, section 5.2). codes: posterior means [N, D],
    for a prior with variance 1.
    """
    return int((codes.var(0, dtype=np.float64) > threshold).sum()), codes.shape[1]


def activation(codes: np.ndarray, *, threshold: float = 0.1) -> dict[str, float]:
    """Returns the sparsity of codes in [0, 1] (sigmoid units), [N, D].

    `mean_activation`: the mean over units and examples, rho in Ng 2011, CS294A, section 3. `l0`: the mean share of an
    example's units above the threshold. `dead_units`: the number of units that no example activates above it.
    """
    on = codes > threshold
    return {
        'mean_activation': float(codes.mean(dtype=np.float64)),
        'l0': float(on.mean()),
        'dead_units': int((~on.any(0)).sum()),
    }


class Components(NamedTuple):
    """The principal components of examples with P values each."""

    mean: np.ndarray  # [P]
    components: np.ndarray  # [P, size], orthonormal, the direction of largest variance first
    eigenvalues: np.ndarray  # [P], of all directions; those beyond `size` sum to the training mean squared error


def pca(train: np.ndarray, size: int) -> Components:
    """Returns the first `size` eigenvectors of the covariance (divided by N) of examples [N, P], in float64."""
    mean = train.mean(0, dtype=np.float64)
    covariance = sum(block.T @ block for block in _centred(train, mean)) / len(train)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    vectors = vectors[:, ::-1][:, :size]
    # A fixed sign: the sign of an eigenvector depends on the library.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return Components(mean, vectors * np.sign(largest), np.maximum(eigenvalues[::-1], 0))


def pca_codes(fitted: Components, examples: np.ndarray) -> np.ndarray:
    """Projects examples [N, P] on the principal components: [N, size], float64."""
    return np.concatenate([block @ fitted.components for block in _centred(examples, fitted.mean)])


def pca_squared_error(fitted: Components, test: np.ndarray) -> np.ndarray:
    """Returns || x - reconstruction ||^2 per example: [N, P] -> [N], in squared units of the examples.

    It compares with `squared_error` if images are in [0, 1].
    """
    return np.concatenate(
        [
            np.square(block - block @ fitted.components @ fitted.components.T).sum(1)
            for block in _centred(test, fitted.mean)
        ]
    )


def _centred(examples: np.ndarray, mean: np.ndarray) -> Iterator[np.ndarray]:
    """Yields blocks of examples [N, P] minus the mean, in float64, so that a large set is never copied whole."""
    return (examples[first : first + BLOCK] - mean for first in range(0, len(examples), BLOCK))


def principal_angle(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the largest principal angle between the spans of a [P, k] and b [P, l], in degrees.

    sin(angle) = || (1 - Q Q') R || with orthonormal bases Q and R (Bjorck & Golub 1973; accurate for small angles). The
    larger value for the two orders is returned. 0: equal spans. 90: one span has a direction orthogonal to the other
    span, which is always so if their ranks differ.
    """
    from scipy.linalg import orth

    a, b = orth(np.asarray(a, np.float64)), orth(np.asarray(b, np.float64))
    sine = max(float(np.linalg.norm(b - a @ (a.T @ b), 2)), float(np.linalg.norm(a - b @ (b.T @ a), 2)))
    return float(np.degrees(np.arcsin(min(sine, 1))))


def affine_span(decode: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray | None:
    """Returns the span of an affine decoder, [P, size] float64; None if the decoder is not affine.

    The columns are decode(unit vector) - decode(0).

    decode: float32 codes [N, size] -> [N, ...]. It must be homogeneous on doubled unit vectors, and additive on codes
    of mixed signs. The second test is needed because a ReLU decoder without biases passes the first one.
    """
    mixed = np.random.default_rng(0).choice([-2, -1, 1, 2], (8, size))  # small integers: exact in bfloat16 too
    unit = np.eye(size)
    probes = np.concatenate([np.zeros((1, size)), unit, 2 * unit, mixed]).astype(np.float32)
    decoded = np.asarray(decode(probes), np.float64).reshape(len(probes), -1)
    moved = decoded[1:] - decoded[0]
    span = moved[:size]
    expected = probes[1:] @ span
    return span.T if np.abs(moved - expected).max() <= 1e-3 * np.abs(expected).max() else None


def usage(indices: np.ndarray, codebook: int) -> dict[str, float]:
    """Returns how discrete codes, integers of any shape, use the codebook entries 0 ... codebook - 1.

    `codebook_used`: the share of entries that occur. `perplexity`: exp(-sum p log p), in entries.
    """
    share = np.bincount(np.ravel(indices), minlength=codebook) / np.size(indices)
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1)))
    return {'codebook_used': float((share > 0).mean()), 'perplexity': float(np.exp(entropy))}


def plane(codes: np.ndarray, method: str, seed: int = 0) -> np.ndarray:
    """Projects the first 5,000 codes to two dimensions, for `genlab.evaluation.metrics.maps`.

    Args:
      codes: [N, D]. Codes with one or two values are returned unchanged, padded with zeros.
      method: 'pca' (the two directions of largest variance), 'tsne' (van der Maaten & Hinton 2008, perplexity 30) or
        'umap' (McInnes et al. 2018, default settings).
      seed: seed of t-SNE and UMAP.

    Returns:
      [min(N, 5000), 2].
    """
    codes = np.asarray(codes[:MAPPED], np.float64)
    if codes.shape[1] <= 2:
        return np.pad(codes, ((0, 0), (0, 2 - codes.shape[1])))
    if method not in METHODS:
        raise ConfigError(f'config.evaluate.maps has {method!r}: choose from {", ".join(METHODS)}')
    return METHODS[method](codes, seed)


def _pca(codes: np.ndarray, seed: int) -> np.ndarray:
    return pca_codes(pca(codes, 2), codes)


def _tsne(codes: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    return TSNE(2, perplexity=min(30, (len(codes) - 1) / 3), init='pca', random_state=seed).fit_transform(codes)


def _umap(codes: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError:
        raise UserError("config.evaluate.maps has 'umap', which is not installed: pip install umap-learn") from None
    return UMAP(n_components=2, random_state=seed, n_jobs=1).fit_transform(codes)


METHODS = {'pca': _pca, 'tsne': _tsne, 'umap': _umap}
