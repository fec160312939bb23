"""Coverage of the combinations of classes in stacked images."""

import numpy as np


def coverage(classes: np.ndarray, count: int) -> dict[str, float]:
    """Returns the modes that samples cover, and the divergence of their distribution from the uniform one.

    A mode is a combination of classes. One sample covers it (Lin et al. 2018, PacGAN, section 4.1). The divergence is
    KL(samples || uniform), nats. With S samples of a uniform distribution over M modes, it is about M / (2 S).

    Args:
        classes: int [N, channels], the class of each channel.
        count: number of classes.
    """
    modes = count ** classes.shape[1]
    numbers = (classes * count ** np.arange(classes.shape[1])).sum(1)
    shares = np.bincount(numbers, minlength=modes) / len(classes)
    found = shares[shares > 0]
    return {
        'modes': int(len(found)),
        'of_modes': modes,
        'mode_divergence': float((found * np.log(found * modes)).sum()),
    }
