"""How well samples cover a density whose modes are known."""

import numpy as np

from genlab import data


def modes(samples: np.ndarray, source: data.Source) -> dict[str, float]:
    """Of points [N, D]: the modes that were found, and the share of samples of high quality.

    A sample is of high quality within three standard deviations of the nearest centre, whose mode it then belongs to; a mode
    is found if it has a quarter of a fair share (after Srivastava et al. 2017, VEEGAN, section 4.1, who ask for one sample)."""
    distance = np.linalg.norm(samples[:, None] - source.centres[None], axis=-1)
    nearest, close = distance.argmin(1), distance.min(1) <= 3 * source.spread
    counts = np.bincount(nearest[close], minlength=len(source.centres))
    fair = len(samples) / len(source.centres)
    return {
        'modes': int((counts >= fair / 4).sum()),
        'of_modes': len(source.centres),
        'high_quality': float(close.mean()),
    }
