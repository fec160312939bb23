"""Times classical models against the packages that people use.

    python -m benchmarks.classical --part=gmm

A part is an entry of PARTS: a function that returns its contenders by name, and the package that they meet. Each
contender runs in processes of its own. Both sides start from the same numbers and do the same iterations.

gmm: EM iterations of a mixture with full covariances against scikit-learn, in float32 and in float64. `full` keeps the
digits of narrow components as scikit-learn does; `full_products` is meant for float64. With restarts
genlab updates all mixtures in one call, and scikit-learn one after another. scikit-learn's `fit` ends with one E step
more, which counts half an iteration of `--steps`.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks import contest

FLOOR = 1e-3  # added to every variance on both sides; with 1e-6 a start of scikit-learn fails in float32


class Part(NamedTuple):
    """The contenders of one model."""

    makers: Callable[[argparse.Namespace], dict[str, Callable]]  # options -> name -> function that builds a contender
    against: str  # the package that genlab meets
    unit: str  # what a step is


def examples(options: argparse.Namespace, dtype: str, restarts: int):
    """Returns examples [N, D] of Gaussians with correlations, and the means [restarts, K, D] of the starts."""
    import numpy as np

    random = np.random.default_rng(0)
    roots = random.normal(size=(options.components, options.dimensions, options.dimensions)) / options.dimensions**0.5
    centres = 2 * random.normal(size=(options.components, options.dimensions))
    label = random.integers(options.components, size=options.examples)
    noise = random.normal(size=(options.examples, options.dimensions))
    x = centres[label] + np.einsum('nd,nde->ne', noise, roots[label])
    rows = np.stack([random.permutation(options.examples)[: options.components] for _ in range(restarts)])
    return x.astype(dtype), x[rows].astype(dtype)


def genlab_em(options: argparse.Namespace, dtype: str, restarts: int, kind: str) -> Callable[[], None]:
    """Compiles `options.steps` EM iterations of all restarts; returns a function that runs them and waits."""
    import jax
    import jax.numpy as jnp

    from genlab.classical import mixture
    from genlab.run.platform import set_up_jax

    set_up_jax()
    jax.config.update('jax_enable_x64', dtype == 'float64')
    x, means = map(jnp.asarray, examples(options, dtype, restarts))
    K, D = options.components, options.dimensions
    covariances = jnp.broadcast_to(jnp.eye(D, dtype=dtype), (restarts, K, D, D))
    mixtures = mixture.Mixture(jnp.full((restarts, K), 1 / K, dtype), means, covariances)

    @partial(jax.jit, donate_argnums=0)
    def call(mixtures, x):
        one = jax.vmap(lambda single: mixture.iterate(single, x, kind, FLOOR))
        return jax.lax.scan(lambda carry, _: one(carry), mixtures, length=options.steps)

    def run():
        nonlocal mixtures
        mixtures, levels = call(mixtures, x)
        jax.block_until_ready(levels)

    return run


def sklearn_em(options: argparse.Namespace, dtype: str, restarts: int) -> Callable[[], None]:
    """Builds mixtures of scikit-learn that go on where their last fit ended."""
    import numpy as np
    from sklearn.mixture import GaussianMixture

    warnings.simplefilter('ignore')  # a fit of few iterations does not converge
    x, means = examples(options, dtype, restarts)
    eye = np.broadcast_to(np.eye(options.dimensions, dtype=dtype), (options.components, *[options.dimensions] * 2))
    mixtures = [
        GaussianMixture(
            options.components,
            init_params='random',  # the cheapest: the start is given
            weights_init=np.full(options.components, 1 / options.components, dtype),
            means_init=start,
            precisions_init=eye,
            reg_covar=FLOOR,
            max_iter=options.steps,
            tol=0,
            warm_start=True,
        )
        for start in means
    ]

    def run():
        for one in mixtures:
            one.fit(x)

    return run


def gmm(options: argparse.Namespace) -> dict[str, Callable]:
    """Returns the contenders of Gaussian mixtures: each dtype, with one start and with several."""
    made: dict[str, Callable] = {}
    for dtype in ('float32', 'float64'):
        for restarts in (1, options.restarts):
            group = f'{dtype}, {restarts} start{"s" if restarts > 1 else ""}'
            for kind in ('full', 'full_products'):
                made[f'{group}: genlab {kind}'] = partial(genlab_em, options, dtype, restarts, kind)
            made[f'{group}: scikit-learn'] = partial(sklearn_em, options, dtype, restarts)
    return made


PARTS = {'gmm': Part(gmm, 'scikit-learn', 'iterations')}


def main() -> None:
    parser = contest.parser(__doc__, rounds=10)
    parser.add_argument('--part', default='gmm', choices=[*PARTS])
    parser.add_argument('--examples', type=int, default=10_000)
    parser.add_argument('--dimensions', type=int, default=64)
    parser.add_argument('--components', type=int, default=32)
    parser.add_argument('--restarts', type=int, default=8)
    parser.add_argument('--steps', type=int, default=10, help='iterations per round')
    options = contest.parse(parser)
    part = PARTS[options.part]
    contest.compete(
        'benchmarks.classical',
        part.makers(options),
        options,
        1,
        steps=options.steps,
        against=part.against,
        unit=part.unit,
    )


if __name__ == '__main__':
    main()
