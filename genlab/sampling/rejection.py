"""Rejection: several candidates are drawn per sample, and the one with the highest score is kept.

Razavi et al. 2019 (VQ-VAE-2), section 3.4: with the classifier's probability of the class as the score, more samples
show their class, and samples are less diverse. `config.sample.candidates` is the number of candidates, and
`config.sample.score` names the score. It works for every model, as a transformation of its ability to sample.

The first candidate of a sample is the sample without rejection, and all depend on its key alone. So sample i is the
same in any batch, and more candidates never lower its score.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genlab import choices, data
from genlab.abilities import Sample, Sampler, Variables
from genlab.conditioning import Condition
from genlab.errors import ConfigError
from genlab.evaluation.features import classifier as features
from genlab.experiment import Experiment
from genlab.noise import stream
from genlab.sampling import drawing
from genlab.training import parallel

WHERE = 'config.sample.score'
CLASSIFIER = 'classifier of the score'  # its place among the variables; no network of a model has this name


class Score(NamedTuple):
    """Holds what scores the candidates, as top-level functions: equal scores are compiled once."""

    # (sampler, variables, keys [N], condition) -> samples [N, ...] and their scores [N]
    draw: Callable[..., tuple[jax.Array, jax.Array]]
    check: Callable[[ConfigDict, Experiment], None]  # raises ConfigError where a model has no such score
    networks: Callable[[ConfigDict], dict[str, Any]]  # what `draw` reads among the variables besides the model's


def of(config: ConfigDict) -> Score:
    """Returns the score that `config.sample.score` names; raises ConfigError if the name is unknown."""
    return choices.build(SCORES, config.sample.score, WHERE)


def check(config: ConfigDict, experiment: Experiment) -> None:
    """Raises ConfigError if the score is unknown, or if the model of several candidates has no such score."""
    score = of(config)
    if config.sample.candidates > 1:
        score.check(config, experiment)


def protocol(config: ConfigDict) -> dict[str, Any]:
    """Returns what figures of samples depend on if samples are selected, as plain values; {} with one candidate."""
    if config.sample.candidates == 1:
        return {}
    return {'candidates': config.sample.candidates, 'score': config.sample.score.to_dict()}


def draw(
    experiment: Experiment,
    placement: parallel.Placement,
    variables: Variables,
    config: ConfigDict,
    *others: Any,
    **named: Any,
) -> np.ndarray:
    """Draws samples as `drawing.draw` does, with its other arguments, each the best of `config.sample.candidates`.

    A call of the model draws at most `config.sample.chunk` candidates, but at least those of one sample.
    """
    candidates = config.sample.candidates
    if candidates > 1 and experiment.sampler is not None:
        score = of(config)
        variables = {**variables, **parallel.replicate(placement, score.networks(config))}
        ability = best_of(score, experiment.sampler, candidates)
        experiment = experiment._replace(sampler=experiment.sampler._replace(sample=ability))
        config = config.copy_and_resolve_references()
        config.sample.chunk = max(config.sample.chunk // candidates, 1)
    return drawing.draw(experiment, placement, variables, config, *others, **named)


@functools.lru_cache(maxsize=8)
def best_of(score: Score, sampler: Sampler, candidates: int) -> Sample:
    """Returns the ability to draw the best of some candidates: one object for equal arguments, so it compiles once."""
    return functools.partial(_best_of, score, sampler, candidates)


def _best_of(
    score: Score, sampler: Sampler, candidates: int, variables: Variables, keys: jax.Array, condition: Condition
) -> jax.Array:
    """Draws the candidates of all samples as one batch, and keeps the best of each. A score of nan is the lowest."""
    more = jax.vmap(lambda number: stream(keys, 'candidate', number), out_axes=1)(jnp.arange(1, candidates))
    every = jnp.concatenate([keys[:, None], more], 1).reshape(-1)
    conditions = jax.tree.map(lambda leaf: jnp.repeat(leaf, candidates, 0), condition)
    drawn, scores = score.draw(sampler, variables, every, conditions)
    best = jnp.where(jnp.isnan(scores), -jnp.inf, scores).reshape(-1, candidates).argmax(1)
    grouped = drawn.reshape(-1, candidates, *drawn.shape[1:])
    return jax.vmap(lambda options, place: options[place])(grouped, best)


def _by_class(
    sampler: Sampler, variables: Variables, keys: jax.Array, condition: Condition
) -> tuple[jax.Array, jax.Array]:
    """Scores by the classifier's log-probability of the requested class; 0 for the null class: the first is kept."""
    samples = sampler.sample(variables, keys, condition)
    log_p = features.log_probabilities(variables[CLASSIFIER], samples)
    return samples, jnp.where(jax.nn.one_hot(condition['label'], log_p.shape[1], dtype=bool), log_p, 0).sum(1)


def _check_class(config: ConfigDict, experiment: Experiment) -> None:
    if not experiment.conditions.classes or data.compared(config.data).observe != 'image':
        raise ConfigError(
            f'{WHERE}=classifier needs a model of images that is conditioned on a class: set '
            f'config.sample.candidates=1{_other(experiment)}, or train a conditional variant'
        )


def _networks(config: ConfigDict) -> dict[str, Any]:
    return {CLASSIFIER: features.load(data.compared(config.data)).params}


def _other(experiment: Experiment) -> str:
    exact = experiment.sampler is not None and experiment.sampler.with_likelihood is not None
    return f', or {WHERE}=likelihood' if exact else ''


def _classifier() -> Score:
    """Scores by the probability of the requested class, by the classifier that evaluation trains and keeps."""
    return Score(_by_class, _check_class, _networks)


def _by_likelihood(
    sampler: Sampler, variables: Variables, keys: jax.Array, condition: Condition
) -> tuple[jax.Array, jax.Array]:
    assert sampler.with_likelihood is not None  # `check` refuses other models
    samples, given, _ = sampler.with_likelihood(variables, keys, condition)
    return samples, given


def _by_information(
    sampler: Sampler, variables: Variables, keys: jax.Array, condition: Condition
) -> tuple[jax.Array, jax.Array]:
    assert sampler.with_likelihood is not None
    samples, given, alone = sampler.with_likelihood(variables, keys, condition)
    return samples, given - alone


def _check_likelihood(config: ConfigDict, experiment: Experiment) -> None:
    if experiment.sampler is None or experiment.sampler.with_likelihood is None:
        raise ConfigError(
            f'{WHERE}={config.sample.score.name} needs an autoregressive model, which knows the likelihood of its '
            f'samples: set config.sample.candidates=1, or {WHERE}=classifier for a model of classes'
        )


def _check_information(config: ConfigDict, experiment: Experiment) -> None:
    _check_likelihood(config, experiment)
    if not experiment.conditions.any or not config.model.get('drop_condition'):
        raise ConfigError(
            f'{WHERE}=information needs a condition and a null condition that is trained: set '
            f'config.model.drop_condition above 0 and train a conditional variant, or set {WHERE}=likelihood'
        )


def _no_networks(config: ConfigDict) -> dict[str, Any]:
    return {}


def _likelihood() -> Score:
    """Scores by the log-likelihood of a drawn sample given the condition, without filters and guidance."""
    return Score(_by_likelihood, _check_likelihood, _no_networks)


def _information() -> Score:
    """Scores by log p(x | c) - log p(x) of a drawn x and its condition c: by Bayes, log p(c | x) up to a constant.

    The likelihood alone favours bland images. This one re-ranks by how well an image shows its caption or class.
    """
    return Score(_by_information, _check_information, _no_networks)


# Name -> a function from options to a Score.
SCORES: Mapping[str, Callable[..., Score]] = {
    'classifier': _classifier,
    'likelihood': _likelihood,
    'information': _information,
}
