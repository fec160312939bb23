"""Emissions of every kind with random parameters, and their log-probabilities by scipy."""

import numpy as np
from scipy import stats

from genlab.classical.emissions import Categorical, Gaussian, Mixture, Poisson

KINDS = ('full', 'tied', 'diagonal', 'spherical')
EMISSIONS = {
    'categorical': Categorical(3, symbols=4),
    'poisson': Poisson(3),
    **{kind: Gaussian(3, covariance=kind) for kind in KINDS},
    'mixture': Mixture(3, components=2),
}


def example(name, shape):
    """Returns (emission, its parameters, observations of a shape [..., 2]), float64."""
    emission, random = EMISSIONS[name], np.random.default_rng(1)
    counts = random.integers(0, 4, shape).astype(float)
    if name == 'categorical':
        return emission, {'probability': random.dirichlet(np.ones(4), (3, 2))}, counts
    if name == 'poisson':
        return emission, {'rate': random.uniform(0.5, 3, (3, 2))}, counts
    number = 6 if name == 'mixture' else 3
    factor = random.normal(size=(number, 2, 2))
    full = factor @ factor.swapaxes(1, 2) + 0.3 * np.eye(2)
    diagonal = np.diagonal(full, axis1=1, axis2=2)
    covariance = {'full': full, 'tied': full[0], 'spherical': diagonal[:, 0]}.get(name, diagonal)
    parameters = {'mean': random.uniform(0, 3, (number, 2)), 'covariance': covariance}
    if name == 'mixture':
        parameters['share'] = random.dirichlet(np.ones(2), 3)
    return emission, parameters, counts + 0.3 * random.normal(size=shape)


def log_prob(name, of, state, x):
    """Returns the log-probability of one observation [2]. of: the parameters."""
    if name == 'categorical':
        return sum(np.log(of['probability'][state, place, int(value)]) for place, value in enumerate(x))
    if name == 'poisson':
        return stats.poisson.logpmf(x, of['rate'][state]).sum()
    if name == 'mixture':
        joint = [
            stats.norm.logpdf(x, of['mean'][part], np.sqrt(of['covariance'][part])).sum()
            for part in (2 * state, 2 * state + 1)
        ]
        return np.logaddexp(*(np.log(of['share'][state]) + joint))
    covariance = of['covariance'] if name == 'tied' else of['covariance'][state]
    covariance = np.diag(np.broadcast_to(covariance, x.shape)) if name in ('diagonal', 'spherical') else covariance
    return stats.multivariate_normal.logpdf(x, of['mean'][state], covariance)
