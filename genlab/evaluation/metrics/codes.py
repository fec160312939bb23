"""What codes are good for: labels, clusters, the units in use, their span, and a map of them.

Codes are float [N, D], one row an example, flattened by the caller; everything is fitted on the codes of training examples.
scikit-learn does the fitting. Principal components of the same size are what the codes of a network must be compared with.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from genlab.errors import ConfigError, UserError

BLOCK = 8192  # examples that are turned to float64 at a time
MAPPED = 5000  # examples on a map: t-SNE takes half a minute for so many on two cores


def linear_probe(
    train_codes: np.ndarray, train_labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray
) -> float:
    """The accuracy on test codes of a multinomial logistic regression on standardised train codes (Alain & Bengio 2017, sec.
    3).

    The regression is scikit-learn's with its weight decay C = 1. Labels are integers [N]."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, tol=1e-3))
    return float(probe.fit(np.float64(train_codes), train_labels).score(np.float64(test_codes), test_labels))


def clusters(codes: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """How well k-means with one cluster a class finds the classes, the best of four starts on the codes as they are.

    `nmi` is the mutual information of clusters and classes over the mean of their entropies, `ari` the adjusted Rand index
    (Hubert & Arabie 1985, equation 5): 1 where they agree, about 0 by chance."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = KMeans(len(np.unique(labels)), n_init=4, random_state=seed).fit_predict(np.float64(codes))
    return {'nmi': float(normalized_mutual_info_score(labels, found)), 'ari': float(adjusted_rand_score(labels, found))}


def active_units(codes: np.ndarray, *, threshold: float = 0.01) -> tuple[int, int]:
    """(units of a variational code that say something of the example, units that there are).

    A unit is active where Var_x(E[z | x]) > 0.01 (Burda et al. 2016, section 5.2); codes: the posterior means, under a prior
    of variance 1."""
    return int((codes.var(0, dtype=np.float64) > threshold).sum()), codes.shape[1]


def activation(codes: np.ndarray, *, threshold: float = 0.1) -> dict[str, float]:
    """How sparse codes in [0, 1] (sigmoid units) are.

    `mean_activation`: over units and examples, the rho of Ng 2011, CS294A, section 3; `l0`: the mean share of an example's
    units above the threshold; `dead_units`: the number of units that are above it for no example."""
    on = codes > threshold
    return {
        'mean_activation': float(codes.mean(dtype=np.float64)),
        'l0': float(on.mean()),
        'dead_units': int((~on.any(0)).sum()),
    }


class Components(NamedTuple):
    """Principal components of examples of P values."""

    mean: np.ndarray  # [P]
    components: np.ndarray  # [P, size], orthonormal, the direction of largest variance first
    eigenvalues: np.ndarray  # [P], of all directions; those beyond `size` add up to the mean squared error on train


def pca(train: np.ndarray, size: int) -> Components:
    """The first `size` eigenvectors of the covariance (divided by N) of examples [N, P], in float64."""
    mean = train.mean(0, dtype=np.float64)
    covariance = sum(block.T @ block for block in _centred(train, mean)) / len(train)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    vectors = vectors[:, ::-1][:, :size]
    largest = np.take_along_axis(
        vectors, np.abs(vectors).argmax(0)[None], 0
    )  # a sign that does not depend on the library
    return Components(mean, vectors * np.sign(largest), np.maximum(eigenvalues[::-1], 0))


def pca_codes(fitted: Components, examples: np.ndarray) -> np.ndarray:
    """Examples [N, P] -> their principal components [N, size], float64."""
    return np.concatenate([block @ fitted.components for block in _centred(examples, fitted.mean)])


def pca_squared_error(fitted: Components, test: np.ndarray) -> np.ndarray:
    """|| x - reconstruction ||^2 of examples [N, P] -> [N], in their units: give images in [0, 1] for `squared_error`'s."""
    return np.concatenate(
        [
            np.square(block - block @ fitted.components @ fitted.components.T).sum(1)
            for block in _centred(test, fitted.mean)
        ]
    )


def _centred(examples, mean):
    """Blocks of examples [N, P] less the mean, in float64, so that a large set is never copied as a whole."""
    return (examples[first : first + BLOCK] - mean for first in range(0, len(examples), BLOCK))


def principal_angle(a: np.ndarray, b: np.ndarray) -> float:
    """The largest angle, in degrees, between a direction of the span of a [P, k] or of b [P, l] and the other span.

    sin(angle) = || (1 - Q Q') R || with orthonormal bases Q, R (Bjorck & Golub 1973; exact where angles are
    small); 0: the same span, 90: some direction of one of them is missing in the other, which is so wherever their ranks
    differ."""
    from scipy.linalg import orth

    a, b = orth(np.float64(a)), orth(np.float64(b))
    sine = max(np.linalg.norm(b - a @ (a.T @ b), 2), np.linalg.norm(a - b @ (b.T @ a), 2))
    return float(np.degrees(np.arcsin(min(sine, 1))))


def affine_span(decode: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray | None:
    """The columns decode(unit vector) - decode(0) of an affine decoder, [P, size] float64; None if it is not affine.

    decode: float32 codes [N, size] -> [N, ...]. It must double what comes of a doubled unit vector, and add up what comes of
    codes of mixed signs: a decoder of ReLUs without biases doubles too."""
    mixed = np.random.default_rng(0).choice([-2, -1, 1, 2], (8, size))  # small integers: exact in bfloat16 too
    unit = np.eye(size)
    probes = np.concatenate([np.zeros((1, size)), unit, 2 * unit, mixed]).astype(np.float32)
    decoded = np.asarray(decode(probes), np.float64).reshape(len(probes), -1)
    moved = decoded[1:] - decoded[0]
    span = moved[:size]
    expected = probes[1:] @ span
    return span.T if np.abs(moved - expected).max() <= 1e-3 * np.abs(expected).max() else None


def usage(indices: np.ndarray, codebook: int) -> dict[str, float]:
    """How discrete codes, integers of any shape over an epoch, use the entries 0 ... codebook - 1.

    `codebook_used`: the share of entries that occur; `perplexity`: exp(-sum p log p), in entries."""
    share = np.bincount(np.ravel(indices), minlength=codebook) / np.size(indices)
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1)))
    return {'codebook_used': float((share > 0).mean()), 'perplexity': float(np.exp(entropy))}


def plane(codes: np.ndarray, method: str, seed: int = 0) -> np.ndarray:
    """The first 5,000 codes on a plane: [N, D] -> [min(N, 5000), 2], for `genlab.evaluation.metrics.maps`.

    method: 'pca' (the two directions of largest variance), 'tsne' (van der Maaten & Hinton 2008, perplexity 30) or 'umap'
    (McInnes et al. 2018, its defaults). Codes of one or two values are shown as they are."""
    codes = np.float64(codes[:MAPPED])
    if codes.shape[1] <= 2:
        return np.pad(codes, ((0, 0), (0, 2 - codes.shape[1])))
    if method not in METHODS:
        raise ConfigError(f'config.evaluate.maps has {method!r}: choose from {", ".join(METHODS)}')
    return METHODS[method](codes, seed)


def _pca(codes, seed):
    return pca_codes(pca(codes, 2), codes)


def _tsne(codes, seed):
    from sklearn.manifold import TSNE

    return TSNE(2, perplexity=min(30, (len(codes) - 1) / 3), init='pca', random_state=seed).fit_transform(codes)


def _umap(codes, seed):
    try:
        from umap import UMAP
    except ImportError:
        raise UserError("config.evaluate.maps has 'umap', which is not installed: pip install umap-learn") from None
    return UMAP(n_components=2, random_state=seed, n_jobs=1).fit_transform(codes)


METHODS = {'pca': _pca, 'tsne': _tsne, 'umap': _umap}
