"""How many different things a model makes: by the classes of its samples, and by how soon samples repeat each other."""

import numpy as np

from genlab.evaluation.metrics.neighbours import closed, nearest, squared_distances


def inception_score(probabilities: np.ndarray, *, splits: int = 1) -> tuple[float, float]:
    """High where each sample is of a certain class and all classes occur; between 1 and the number of classes.

    IS = exp mean_i KL( p(y | x_i) || p(y) ), p(y) = mean_i p(y | x_i) (Salimans et al. 2016, section 4), natural logarithms,
    0 log 0 = 0. Computed on `splits` equal parts (10 in the paper), the mean and the standard deviation over which are given.
    probabilities: [N, K], rows that sum to 1. Returns (mean, standard deviation); one split has a deviation of 0.
    """
    from scipy.special import rel_entr

    parts = np.array_split(np.asarray(probabilities, np.float64), splits)
    scores = [np.exp(rel_entr(part, part.mean(0)).sum(1).mean()) for part in parts]
    return float(np.mean(scores)), float(np.std(scores))


def class_divergence(shares_of_samples: np.ndarray, shares_of_data: np.ndarray) -> float:
    """How far the classes of samples are from those of the data: 0 where they agree.

    KL(samples || data) = sum_k p_k log(p_k / q_k), p of the samples, q of the data, the direction of the tables on stacked
    MNIST (Srivastava et al. 2017, section 4). A class that no sample has adds nothing, so a model of one class among K equal
    ones has log K; a class of samples that the data lacks makes it infinite. N samples of the data itself give about
    (K - 1) / 2N. Shares or counts: [K]. Returns nats.
    """
    from scipy.special import rel_entr

    p, q = (np.asarray(shares, np.float64) / np.sum(shares) for shares in (shares_of_samples, shares_of_data))
    return float(rel_entr(p, q).sum())


def birthday_support(
    samples: np.ndarray, real: np.ndarray, *, quantile: float = 0.01, orders: int = 1000, seed: int = 0
) -> dict[str, float]:
    """The birthday test: a distribution over n things repeats one in about sqrt(n) draws, so the first repeat tells n.

    s is the smallest batch of samples that holds a duplicate with probability 1/2, and s^2 estimates the support, to within
    a small factor: 1.4 n for n equally likely things (Arora & Zhang 2017). They judge the closest pairs by
    eye; here a pair is a duplicate if it is as close as only the closest 1 % of `real`, held-out examples, are to their
    nearest neighbour. So real data has a finite s^2 by the same rule, 'support_of_data': a model that comes near it is
    as diverse as this test can tell. The probability is over `orders` random orders of the samples.
    samples: [N, D]; real: [M, D], held out, M >= 1 / quantile. Returns 'support', s^2, infinite without duplicates;
    'support_at_least', what is left of it if luck, one time in twenty, kept duplicates away: 0.23 N^2 where there are none;
    'support_of_data'; 'duplicates', pairs among the samples that were looked at, 'looked_at'; and 'threshold', a distance.
    """
    from scipy.stats import chi2

    threshold = float(np.quantile(nearest(real, real, count=2)[1][:, 1], quantile))
    random = np.random.default_rng(seed)
    pairs, looked_at = _some_duplicates(random.permutation(samples), threshold)
    of_data = _some_duplicates(random.permutation(real), threshold)
    most = (
        chi2.ppf(0.95, 2 * len(pairs) + 2) / 2
    )  # the largest mean of a Poisson count that gives so few in 5 % of cases
    return {
        'support': _squared_batch(random, pairs, looked_at, orders),
        'support_at_least': float(np.log(2) * looked_at * (looked_at - 1) / most),
        'support_of_data': _squared_batch(random, *of_data, orders),
        'duplicates': len(pairs),
        'looked_at': looked_at,
        'threshold': threshold,
    }


def _some_duplicates(samples: np.ndarray, threshold: float, enough: int = 1000) -> tuple[np.ndarray, int]:
    """Pairs [P, 2] of samples within a distance, among the first n, and n: as many as hold `enough` pairs, or all.

    A collapsed model has duplicates everywhere: N^2 / 2 pairs would fill the memory and say no more than a thousand."""
    looked_at = min(500, len(samples))
    while True:
        part = samples[:looked_at]
        bounds, pairs = closed(np.full(looked_at, threshold), part, part), []
        for rows, squared in squared_distances(part, part):
            first, second = np.nonzero(squared <= bounds[rows, None])
            pairs.append(np.stack([first + rows.start, second], 1)[second > first + rows.start])
        pairs = np.concatenate(pairs)
        if len(pairs) >= enough or looked_at == len(samples):
            return pairs, looked_at
        looked_at = min(2 * looked_at, len(samples))


def _squared_batch(random: np.random.Generator, pairs: np.ndarray, count: int, orders: int) -> float:
    """s^2: drawn in random order, half of the time the first s of `count` samples hold one of the pairs [P, 2]."""
    if not len(pairs):
        return float('inf')
    first = [random.permutation(count)[pairs].max(1).min() + 1 for _ in range(orders)]
    return float(np.quantile(first, 0.5, method='inverted_cdf')) ** 2
