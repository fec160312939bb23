"""Mode coverage for a density whose modes are known."""

import numpy as np

from genlab import data


def modes(samples: np.ndarray, source: data.Source) -> dict[str, float]:
    """Returns the number of modes that samples cover, and the share of samples of high quality.

    A sample has high quality if it lies within three standard deviations of the nearest centre, and then belongs to
    that mode. A mode is covered if it has at least a quarter of an equal share (Srivastava et al. 2017, VEEGAN, section
    4.1, require one sample). samples: [N, D].
    """
    assert source.centres is not None and source.spread is not None
    distance = np.linalg.norm(samples[:, None] - source.centres[None], axis=-1)
    nearest, close = distance.argmin(1), distance.min(1) <= 3 * source.spread
    counts = np.bincount(nearest[close], minlength=len(source.centres))
    fair = len(samples) / len(source.centres)
    return {
        'modes': int((counts >= fair / 4).sum()),
        'of_modes': len(source.centres),
        'high_quality': float(close.mean()),
    }
