"""Diversity of samples: by their classes, and by how soon samples repeat."""

import numpy as np

from genlab.evaluation.metrics.neighbours import closed, nearest, squared_distances


def inception_score(probabilities: np.ndarray, *, splits: int = 1) -> tuple[float, float]:
    """Returns the Inception Score: high if each sample clearly belongs to one class and all classes occur.

    IS = exp mean_i KL( p(y | x_i) || p(y) ), p(y) = mean_i p(y | x_i) (Salimans et al. 2016, section 4), with natural
    logarithms and 0 log 0 = 0. It lies between 1 and the number of classes.

    Args:
      probabilities: [N, K]; rows sum to 1.
      splits: equal parts on which it is computed (10 in the paper).

    Returns:
      (mean, standard deviation) over the splits. The deviation for one split is 0.
    """
    from scipy.special import rel_entr

    parts = np.array_split(np.asarray(probabilities, np.float64), splits)
    scores = [np.exp(rel_entr(part, part.mean(0)).sum(1).mean()) for part in parts]
    return float(np.mean(scores)), float(np.std(scores))


def class_divergence(shares_of_samples: np.ndarray, shares_of_data: np.ndarray) -> float:
    """Returns the divergence of the class histogram of samples from the class histogram of the data, in nats.

    KL(samples || data) = sum_k p_k log(p_k / q_k), as for stacked MNIST (Srivastava et al. 2017, section 4). A class
    without samples adds nothing, so a model of one class among K equal ones has log K. A class that the data lack makes
    it infinite. N samples of the data have about (K - 1) / 2N.

    Args:
      shares_of_samples: [K], shares or counts.
      shares_of_data: [K], shares or counts.
    """
    from scipy.special import rel_entr

    p, q = (np.asarray(shares, np.float64) / np.sum(shares) for shares in (shares_of_samples, shares_of_data))
    return float(rel_entr(p, q).sum())


def birthday_support(
    samples: np.ndarray, real: np.ndarray, *, quantile: float = 0.01, orders: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Estimates the support of samples by the birthday test: n equally likely items repeat within about sqrt(n) draws.

    s is the smallest number of samples that contains a duplicate with probability 1/2; s^2 estimates the support up to
    a small factor, 1.4 n for n equally likely items (Arora & Zhang 2017). The paper inspects the closest pairs
    visually. Here a pair is a duplicate if its distance is at most a threshold. The threshold is the `quantile` of the
    distances between held-out examples and their nearest neighbours. So data have a finite s^2 too, `support_of_data`:
    the test cannot show more diversity than that.

    Args:
      samples: [N, D].
      real: [M, D], held out, M >= 1 / quantile.
      quantile: quantile of the distances between held-out examples and their nearest neighbours.
      orders: random orders of the samples, over which the probability is taken.
      seed: seed of the orders.

    Returns:
      `support`: s^2, infinite without duplicates.
      `support_at_least`: a lower bound at 95 % confidence; 0.23 N^2 without duplicates.
      `support_of_data`: s^2 of `real`.
      `duplicates`: pairs among the first `looked_at` samples, which are all that were searched.
      `threshold`: the distance.
    """
    from scipy.stats import chi2

    threshold = float(np.quantile(nearest(real, real, count=2)[1][:, 1], quantile))
    random = np.random.default_rng(seed)
    pairs, looked_at = _some_duplicates(random.permutation(samples), threshold)
    of_data = _some_duplicates(random.permutation(real), threshold)
    # The largest Poisson mean that gives at most this many pairs with probability 5 %.
    most = chi2.ppf(0.95, 2 * len(pairs) + 2) / 2
    return {
        'support': _squared_batch(random, pairs, looked_at, orders),
        'support_at_least': float(np.log(2) * looked_at * (looked_at - 1) / most),
        'support_of_data': _squared_batch(random, *of_data, orders),
        'duplicates': len(pairs),
        'looked_at': looked_at,
        'threshold': threshold,
    }


def _some_duplicates(samples: np.ndarray, threshold: float, enough: int = 1000) -> tuple[np.ndarray, int]:
    """Returns pairs [P, 2] within `threshold` among the first n samples, and n.

    n is large enough for `enough` pairs, or all samples. A collapsed model has duplicates everywhere: N^2 / 2 pairs
    would fill the memory without adding information.
    """
    looked_at = min(500, len(samples))
    while True:
        part = samples[:looked_at]
        bounds, blocks = closed(np.full(looked_at, threshold), part, part), []
        for rows, squared in squared_distances(part, part):
            first, second = np.nonzero(squared <= bounds[rows, None])
            blocks.append(np.stack([first + rows.start, second], 1)[second > first + rows.start])
        pairs = np.concatenate(blocks)
        if len(pairs) >= enough or looked_at == len(samples):
            return pairs, looked_at
        looked_at = min(2 * looked_at, len(samples))


def _squared_batch(random: np.random.Generator, pairs: np.ndarray, count: int, orders: int) -> float:
    """Returns s^2: with probability 1/2 the first s of `count` shuffled samples contain one of the pairs [P, 2]."""
    if not len(pairs):
        return float('inf')
    first = [random.permutation(count)[pairs].max(1).min() + 1 for _ in range(orders)]
    return float(np.quantile(first, 0.5, method='inverted_cdf')) ** 2
