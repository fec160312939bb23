"""Held-out examples: the measures of the model, and likelihoods in the same unit for all families."""

import contextlib
import functools
from collections.abc import Callable

import jax
import numpy as np

from genlab.abilities import Batch, Likelihood, Variables
from genlab.evaluation.metrics import likelihood
from genlab.evaluation.subject import Part, Subject, compiled
from genlab.sampling import drawing
from genlab.training import parallel

LIKELIHOODS = ('nll', 'nll_bound', 'nll_importance_weighted', 'nll_exact', 'nll_ais', 'nll_ais_low', 'nll_ais_high')


def applies(subject: Subject) -> bool:
    """Returns whether the model measures examples."""
    return subject.experiment.measure is not None


def evaluate(subject: Subject) -> Part:
    """Averages the measures of the model, and adds the likelihoods that the config requests.

    `config.evaluate.importance` requests the importance-weighted likelihood, `config.evaluate.exact` the exact one, and
    `config.evaluate.annealed` the one with a normaliser estimated by annealed importance sampling.
    Every likelihood of images is also reported in bits per dimension.
    """
    with precise():
        return _evaluate(subject)


def precise() -> contextlib.AbstractContextManager:
    """Returns a context in which accelerators multiply in float32, as a CPU always does.

    By default a GPU rounds operands to 10 bits and a TPU to 7. Annealed importance sampling sums such errors over
    thousands of temperatures.
    """
    return contextlib.nullcontext() if jax.default_backend() == 'cpu' else jax.default_matmul_precision('float32')


def _evaluate(subject: Subject) -> Part:
    """Computes the figures of `evaluate`."""
    settings = subject.config.evaluate
    values = subject.over(compiled(subject.experiment.measure))
    protocol = {'held_out': subject.held_out, **subject.modelled}
    estimates = subject.experiment.likelihood or Likelihood()
    if estimates.log_weight and settings.importance:
        log_weight: Callable = estimates.log_weight
        estimate = importance(log_weight, settings.importance, settings.importance_chunk)
        values |= subject.over(estimate, purpose='importance')
        protocol |= {'importance': settings.importance}
    if estimates.exact and settings.exact:
        values |= exact(subject, estimates.exact)
        protocol |= {'exact': min(settings.exact, subject.held_out)}
    figures = {name: float(np.mean(value, dtype=np.float64)) for name, value in values.items()}
    if estimates.annealed and estimates.unnormalised and settings.annealed:
        figures |= annealed(subject, estimates.unnormalised, estimates.annealed)
        protocol |= {'ais_runs': settings.annealed, 'ais_temperatures': settings.temperatures}
    likelihoods = [name for name in LIKELIHOODS if name in figures]
    if likelihoods and subject.images:
        dimensions = int(np.prod(subject.test.fields[subject.config.data.observe].shape))
        for name in likelihoods:
            bits = likelihood.bits_per_dimension(np.asarray(figures[name]), dimensions, dequantised=False)
            figures[name.replace('nll', 'bits_per_dimension')] = float(bits)
    return Part(protocol, figures)


def exact(subject: Subject, ability: Callable) -> dict[str, np.ndarray]:
    """Returns the exact negative log-likelihood of the first held-out examples, [N] in nats.

    For dequantised images it refers to the 8-bit levels. ability: `Likelihood.exact` of the model.
    """
    log_likelihood = compiled(ability)
    nats = subject.over(
        lambda *arguments: {'nats': log_likelihood(*arguments)}, purpose='exact', count=subject.config.evaluate.exact
    )['nats']
    if not subject.config.data.dequantise:
        return {'nll_exact' if not subject.images else 'negative_log_density': -nats}
    return {'nll_exact': -likelihood.of_levels(nats, int(np.prod(subject.x('test').shape[1:])))}


def annealed(subject: Subject, unnormalised: Callable, log_weights: Callable) -> dict[str, float]:
    """Returns the negative log-likelihood with a normaliser Z estimated by annealed importance sampling, in nats.

    `nll_ais` is the estimate, which is too low on average. `nll_ais_low` and `nll_ais_high` are those of the estimate
    of Z minus and plus 3 standard errors; see `likelihood.log_mean`. `log_partition_ais` is the estimate of log Z. For
    dequantised images, likelihoods refer to the 8-bit levels.

    Args:
        subject: the model.
        unnormalised: `Likelihood.unnormalised` of the model.
        log_weights: `Likelihood.annealed` of the model.
    """
    settings, score = subject.config.evaluate, compiled(unnormalised)
    nats = subject.over(lambda *arguments: {'nats': score(*arguments)}, purpose='exact')['nats']
    if subject.config.data.dequantise:
        nats = likelihood.of_levels(nats, int(np.prod(subject.x('test').shape[1:])))
    keys = drawing.keys(settings.seed, 0, settings.annealed, 'annealed')
    runs = parallel.run(subject.placement, compiled(log_weights), subject.variables, keys)
    estimate, low, high = likelihood.log_mean(runs)
    score_mean = float(np.mean(nats, dtype=np.float64))
    return {
        'nll_ais': estimate - score_mean,
        'nll_ais_low': low - score_mean,
        'nll_ais_high': high - score_mean,
        'log_partition_ais': estimate,
    }


@functools.lru_cache(maxsize=8)
def importance(log_weight: Callable, count: int, chunk: int) -> Callable:
    """Returns the compiled estimate (variables, batch, keys) -> {name: [B]}.

    It is the same object for the same arguments, so that it compiles once.

    Args:
      log_weight: `Likelihood.log_weight` of the model.
      count: latents per example.
      chunk: latents at a time.
    """

    def estimate(variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
        bound, _ = likelihood.importance_weighted(log_weight, variables, batch, keys, count=count, chunk=chunk)
        return {'nll_importance_weighted': -bound}

    return jax.jit(estimate)
