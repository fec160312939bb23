"""Optimizers: `adam` and `sgd` return the plain values of a config; `build` turns them into an optax chain."""

from collections.abc import Callable

import optax
from ml_collections import ConfigDict

from genlab import choices
from genlab.config import check_ramp, schedule, untyped
from genlab.errors import ConfigError


def adam(
    learning_rate: float | ConfigDict,
    b1: float = 0.9,
    b2: float = 0.999,
    epsilon: float = 1e-8,
    *,
    weight_decay: float = 0.0,
    clip: float = 0.0,
    warmup: int = 0,
) -> ConfigDict:
    """Returns the config of Adam (Kingma & Ba 2015); with `weight_decay` above 0 of AdamW (Loshchilov & Hutter 2019).

    Args:
      learning_rate: a number or a ramp().
      b1: decay of the mean of gradients, in [0, 1).
      b2: decay of the mean of squared gradients, in [0, 1).
      epsilon: added to the root of the mean square.
      weight_decay: factor of decoupled weight decay; 0 turns it off.
      clip: largest global norm of the gradient; 0 turns clipping off.
      warmup: steps over which the learning rate rises linearly from 0.
    """
    return untyped(
        name='adam',
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        epsilon=epsilon,
        weight_decay=weight_decay,
        clip=clip,
        warmup=warmup,
    )


def sgd(
    learning_rate: float | ConfigDict,
    momentum: float = 0.0,
    *,
    weight_decay: float = 0.0,
    clip: float = 0.0,
    warmup: int = 0,
) -> ConfigDict:
    """Returns the config of stochastic gradient descent.

    Args:
      learning_rate: a number or a ramp().
      momentum: decay of the sum of gradients, in [0, 1); 0 turns it off.
      weight_decay: factor of decoupled weight decay; 0 turns it off.
      clip: largest global norm of the gradient; 0 turns clipping off.
      warmup: steps over which the learning rate rises linearly from 0.
    """
    return untyped(
        name='sgd', learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay, clip=clip, warmup=warmup
    )


DECAYS = ('b1', 'b2', 'momentum')

RULES = {
    'adam': lambda config: optax.scale_by_adam(config.b1, config.b2, config.epsilon),
    'sgd': lambda config: optax.trace(config.momentum) if config.momentum else optax.identity(),
}


OPTIMIZERS: dict[str, Callable[..., ConfigDict]] = {'adam': adam, 'sgd': sgd}


def build(config: ConfigDict, steps: int = 0, where: str = 'config.optimizer') -> optax.GradientTransformation:
    """Builds an optimizer: global-norm clipping if `clip` > 0, the rule, decoupled weight decay, the learning rate.

    The learning rate is a number or a ramp(). It rises linearly from 0 over the first `warmup` steps. The schedule
    counts the turns of the player: with five turns per training step it advances by five.

    Args:
      config: the values of `adam` or `sgd`.
      steps: the length of the run, for a ramp() without steps.
      where: the dotted key of `config`, for errors.

    Raises:
      ConfigError: there is no such optimizer, it has no such option, or an option is out of its range.
    """
    config = choices.build(OPTIMIZERS, config, where)
    for name, value in config.items():
        check_ramp(value, f'{where}.{name}')
        numbers = (value.start, value.end) if isinstance(value, ConfigDict) else (value,)
        if name != 'name' and not all(isinstance(number, (int, float)) and number >= 0 for number in numbers):
            shown = ' to '.join(map(str, numbers))
            raise ConfigError(f'{where}.{name}={shown}: give a number that is not negative')
        if name in DECAYS and value >= 1:
            raise ConfigError(f'{where}.{name}={value}: give a number below 1')
    if not isinstance(config.warmup, int):
        raise ConfigError(f'{where}.warmup={config.warmup}: give a whole number of steps')
    # Without clipping its place in the state stays, so that a run may begin to clip.
    chain = [optax.clip_by_global_norm(config.clip) if config.clip > 0 else optax.identity()]
    chain.append(RULES[config.name](config))
    if config.weight_decay > 0:
        chain.append(optax.add_decayed_weights(config.weight_decay))
    return optax.chain(*chain, optax.scale_by_learning_rate(_rate(config, steps)))


def _rate(config: ConfigDict, steps: int) -> optax.ScalarOrSchedule:
    """Returns the learning rate, a number or a function of the step."""
    rate, warmup = schedule(config.learning_rate, steps), config.warmup
    if not warmup:
        return rate
    value = rate if callable(rate) else lambda step: rate
    return lambda step: value(step) * (step + 1).clip(max=warmup) / warmup
