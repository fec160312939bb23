"""How many samples each metric needs. With fewer, a report states the requirement instead of a number."""


def needs(metric: str, dimensions: int) -> int:
    """Returns the least number of samples, and of real examples, for which a metric is meaningful.

    With fewer than D + 1 examples the covariance is rank-deficient, and the Frechet distance depends more on their
    number than on the model. Ten per class leave a bias of (K - 1) / 2N = 0.05 nats. A hundred have a 1 % quantile, and
    a standard error. dimensions: of the features; for `inception_score` and `class_divergence`, the number of classes.
    """
    return {
        'frechet': dimensions + 1,
        'kernel_distance': 100,
        'manifold': 100,
        'sliced_wasserstein': 100,
        'inception_score': 10 * dimensions,
        'class_divergence': 10 * dimensions,
        'birthday_support': 100,
        'memorised': 100,
    }[metric]


def shortage(metric: str, dimensions: int, *counts: int) -> str:
    """Returns the text that replaces a metric on too few examples; '' if there are enough.

    Args:
      metric: its name.
      dimensions: as for `needs`.
      counts: the numbers of samples and real examples.
    """
    least, fewest = needs(metric, dimensions), min(counts)
    return '' if fewest >= least else f'needs at least {least:,} samples, there are {fewest:,}'
