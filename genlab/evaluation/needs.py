"""How many samples each measure of quality needs, so that a report says what is missing instead of a number."""


def needs(metric: str, dimensions: int) -> int:
    """The least number of samples, and of real examples, that a metric is worth computing on.

    dimensions: of the features, or the number of classes for the two metrics of class probabilities. Fewer than D + 1
    examples have a covariance without full rank, and their Frechet distance depends on their number more than on the model;
    ten a class leave a bias of (K - 1) / 2N = 0.05 nats; a hundred have a quantile of 1 %, and a standard error at all.
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
    """What to write instead of the metric, for the numbers of samples and of real examples; '' if there are enough."""
    least, fewest = needs(metric, dimensions), min(counts)
    return '' if fewest >= least else f'needs at least {least:,} samples, there are {fewest:,}'
