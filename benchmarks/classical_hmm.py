"""Times Baum-Welch iterations of hidden Markov models against hmmlearn.

    python -m benchmarks.classical_hmm --steps=10

Sequences are drawn from a model with Gaussian emissions. Both sides start from the same numbers and do the same
iterations on all sequences at once. hmmlearn computes in float64, by two algorithms: `log`, its default, and `scaling`,
which is faster and may underflow. genlab computes in float32 and float64.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial

from benchmarks import contest

FLOOR = 1e-3
KINDS = {'diagonal': 'diag', 'full': 'full'}  # as hmmlearn names them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sizes of the problem."""
    parser.add_argument('--sequences', type=int, default=64)
    parser.add_argument('--times', type=int, default=1000)
    parser.add_argument('--states', type=int, default=16)
    parser.add_argument('--values', type=int, default=4, help='numbers per time')


def problem(options: argparse.Namespace):
    """Returns sequences [B, T, D], and the start [K], transitions [K, K] and means [K, D] of the first iteration."""
    import numpy as np

    random = np.random.default_rng(0)
    K, shape = options.states, (options.sequences, options.times, options.values)
    centres, stay = 3 * random.normal(size=(K, options.values)), random.random(shape[:2]) < 0.9
    jumps = random.integers(K, size=shape[:2])
    states = jumps.copy()
    for time in range(1, options.times):
        states[:, time] = np.where(stay[:, time], states[:, time - 1], jumps[:, time])
    x = centres[states] + random.normal(size=shape)
    transition = random.dirichlet(np.full(K, 5.0), K)
    return x, np.full(K, 1 / K), transition, centres + random.normal(size=centres.shape)


def genlab_em(options: argparse.Namespace, covariance: str, dtype: str) -> Callable[[], None]:
    """Compiles the iterations of a round; returns a function that runs them and waits for the result."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from genlab.classical import emissions, hmm
    from genlab.run.platform import set_up_jax

    set_up_jax()
    jax.config.update('jax_enable_x64', dtype == 'float64')
    x, start, transition, mean = problem(options)
    size = (options.states, options.values)
    ones = np.broadcast_to(np.eye(options.values), (*size, options.values)) if covariance == 'full' else np.ones(size)
    parameters = {'start': start, 'transition': transition, 'emission': {'mean': mean, 'covariance': ones}}
    x, parameters = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (x, parameters))
    model = hmm.Model(options.states, emissions.Gaussian(options.states, covariance=covariance, floor=FLOOR))
    lengths = jnp.full(options.sequences, options.times)
    fit = jax.jit(partial(hmm.fit, model, steps=options.steps))

    def run():
        nonlocal parameters
        parameters, _ = jax.block_until_ready(fit(parameters, x, lengths))

    return run


def hmmlearn_em(options: argparse.Namespace, covariance: str, implementation: str) -> Callable[[], None]:
    """Builds a model of hmmlearn that goes on where its last fit ended."""
    import numpy as np
    from hmmlearn.hmm import GaussianHMM

    warnings.simplefilter('ignore')
    x, start, transition, mean = problem(options)
    model = GaussianHMM(
        options.states,
        KINDS[covariance],
        n_iter=options.steps,
        tol=-np.inf,  # it does all iterations
        init_params='',
        implementation=implementation,
        covars_prior=0,  # maximum likelihood, as the other side
        covars_weight=0,
        means_weight=0,
    )
    one = np.eye(options.values) if covariance == 'full' else np.ones(options.values)
    model.startprob_, model.transmat_, model.means_ = start, transition, mean
    model.covars_ = np.repeat(one[None], options.states, 0)
    rows, lengths = x.reshape(-1, options.values), np.full(options.sequences, options.times)
    return lambda: model.fit(rows, lengths)


def hmm(options: argparse.Namespace) -> dict[str, Callable]:
    """Returns the contenders: a group per kind of covariances."""
    made: dict[str, Callable] = {}
    for covariance in KINDS:
        for dtype in ('float32', 'float64'):
            made[f'{covariance}: genlab, {dtype}'] = partial(genlab_em, options, covariance, dtype)
        for implementation in ('log', 'scaling'):
            made[f'{covariance}: hmmlearn, {implementation}'] = partial(
                hmmlearn_em, options, covariance, implementation
            )
    return made


def main() -> None:
    parser = contest.parser(__doc__, rounds=6)
    add_arguments(parser)
    parser.add_argument('--steps', type=int, default=10, help='iterations per round')
    options = contest.parse(parser)
    contest.compete(
        'benchmarks.classical_hmm',
        hmm(options),
        options,
        1,
        steps=options.steps,
        against='hmmlearn',
        unit='iterations',
    )


if __name__ == '__main__':
    main()
