"""What a model says of held-out examples: its own measures, and likelihoods in one unit for all families."""

import functools

import jax
import numpy as np

from genlab.abilities import Likelihood
from genlab.evaluation.metrics import likelihood
from genlab.evaluation.subject import Part, Subject
from genlab.sampling import drawing

LIKELIHOODS = ('nll', 'nll_bound', 'nll_importance_weighted', 'nll_exact')


def applies(subject: Subject) -> bool:
    return subject.experiment.measure is not None


def judge(subject: Subject) -> Part:
    """The means of the model's own measures, the importance-weighted likelihood if the config asks for it, and bits per
    dimension of every likelihood of images."""
    experiment, evaluate = subject.experiment, subject.config.evaluate
    values = subject.over(drawing.jitted(experiment.measure))
    protocol = {'held_out': subject.held_out}
    estimates = experiment.likelihood or Likelihood()
    if estimates.log_weight and evaluate.importance:
        estimate = importance(estimates.log_weight, evaluate.importance, evaluate.importance_chunk)
        values |= subject.over(estimate, purpose='importance')
        protocol |= {'importance': evaluate.importance}
    if estimates.exact and evaluate.exact:
        values |= exact(subject)
        protocol |= {'exact': min(evaluate.exact, subject.held_out)}
    figures = {name: float(np.mean(value, dtype=np.float64)) for name, value in values.items()}
    stated = [name for name in LIKELIHOODS if name in figures]
    if stated and subject.images:
        dimensions = int(np.prod(subject.test.fields[subject.config.data.observe].shape))
        bits = {name: likelihood.bits_per_dimension(figures[name], dimensions, dequantised=False) for name in stated}
        figures |= {name.replace('nll', 'bits_per_dimension'): float(value) for name, value in bits.items()}
    return Part(protocol, figures)


def exact(subject: Subject) -> dict[str, np.ndarray]:
    """Minus the exact log-likelihood of the first held-out examples, nats; of the 8-bit levels where they are dequantised."""
    log_likelihood = drawing.jitted(subject.experiment.likelihood.exact)
    found = subject.over(
        lambda *arguments: {'nats': log_likelihood(*arguments)}, purpose='exact', count=subject.config.evaluate.exact
    )['nats']
    if not subject.config.data.dequantise:
        return {'nll_exact' if not subject.images else 'negative_log_density': -found}
    return {'nll_exact': -likelihood.of_levels(found, int(np.prod(subject.x('test').shape[1:])))}


@functools.lru_cache(maxsize=8)
def importance(log_weight, count: int, chunk: int):
    """The compiled estimate (variables, batch, keys) -> {name: [B]}, the same object at each call, so that it compiles once."""

    def estimate(variables, batch, keys):
        bound, _ = likelihood.importance_weighted(log_weight, variables, batch, keys, count=count, chunk=chunk)
        return {'nll_importance_weighted': -bound}

    return jax.jit(estimate)
