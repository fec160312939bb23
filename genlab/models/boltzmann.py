"""Boltzmann machines: one network, trained by the contrast of data and Gibbs samples, or by the exact likelihood.

The data determine states v of the visible units. For binary units, images are rescaled from [-1, 1] to [0, 1]. For
Gaussian units, they are divided by the standard deviation `deviation`. Only binarised images of binary units, and
dequantised images of Gaussian ones, have a likelihood. For the arguments that all families share, see `genlab.models`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.classical import boltzmann
from genlab.classical.boltzmann import Machine
from genlab.conditioning import Condition
from genlab.data.source import Source, example_shape
from genlab.data.transforms import is_map
from genlab.errors import ConfigError, choose
from genlab.losses import reconstruction, sparsity
from genlab.networks.boltzmann import FullMachine, RestrictedMachine
from genlab.training.parallel import laid_out
from genlab.training.pretrained import replace_networks
from genlab.training.state import Network, State

NAME = 'machine'  # name of the network and its player
HIDDEN = 10  # most hidden units of a full machine, whose states are enumerated for each example
EXAMPLES = 10_000  # most training examples that base rates are measured on


def settings(machine: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a Boltzmann machine, with changes."""
    return choices.filled(
        'config.model',
        dict(
            machine=machine,  # named: restricted (visible: binary or gaussian), or full
            latent_size=64,  # hidden units
            gibbs_steps=1,  # k of CD-k, or steps of the persistent chains per training step
            persistent=False,  # whether negative samples come from persistent chains, one per example of a batch
            deviation=1.0,  # standard deviation of Gaussian visible units given the hidden ones, for images in [-1, 1]
            rho=0.0,  # target of the mean activation of binary hidden units, for the term sparsity
        ),
        changes,
    )


def sampling() -> dict[str, Any]:
    """Returns the keys that a Boltzmann machine adds to `config.sample`."""
    return dict(steps=1000)  # Gibbs steps of a sample, from a draw with the base rates


class Boltzmann(NamedTuple):
    """Holds a machine, its module, and how data become states of its visible units."""

    machine: Machine
    module: nn.Module
    shape: tuple[int, ...]  # shape of an example
    offset: float  # v = (x - offset) / scale
    scale: float
    learning: Machine  # makes the negative samples; `machine`, or one whose visible units take their means
    visible: boltzmann.Units = boltzmann.BINARY
    hidden: boltzmann.Units | None = boltzmann.BINARY  # None: the hidden units depend on each other
    persistent: bool = False
    gibbs_steps: int = 1
    rho: float = 0.0
    sample_steps: int = 1000
    temperatures: int = 1000  # number of temperatures of annealed importance sampling
    comparable: bool = False  # whether F gives a likelihood of the data
    axis: str | None = None


def networks(model: Boltzmann, batch: Batch) -> dict[str, Network]:
    """Returns the network by name, with inputs that initialise it."""
    return {NAME: Network(model.module, (states(model, batch['x']), False))}


def parameters(own: Mapping[str, Any]) -> Any:
    """Returns the parameters of a machine, `Restricted` or `Full`. own: variables of its network."""
    kind = boltzmann.Full if 'pairs' in own['params'] else boltzmann.Restricted
    return kind(**own['params'])


def states(model: Boltzmann, x: jax.Array) -> jax.Array:
    """Converts examples [B, ...] to states [B, D] of the visible units."""
    return (x.reshape(len(x), -1) - model.offset) / model.scale


def examples(model: Boltzmann, v: jax.Array) -> jax.Array:
    """Converts states [B, D] of the visible units to examples [B, ...]."""
    return (v * model.scale + model.offset).reshape(len(v), *model.shape)


# Training.


def terms(model: Boltzmann, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the machine's player; see `machine_terms`."""
    own = variables[NAME]
    return machine_terms(model, NAME, own, states(model, batch['x']), batch['position'], keys), {}


def machine_terms(
    model: Boltzmann, name: str, own: Mapping[str, Any], v: jax.Array, position: jax.Array, keys: jax.Array
) -> dict[str, Callable]:
    """Returns the terms of one machine.

    contrastive: F(v) - F(v_k), whose gradient is the update of CD-k or PCD; its value means nothing (Hinton 2002).
    nll: exact negative log-likelihood, for few units and data that have one.
    sparsity: divergence of the mean activations from `rho`; for binary hidden units only.
    squared_error: squared error of the means of v given the means of h, in [0, 1] for images. It has no gradient.

    Args:
        model: the machine.
        name: name of its network.
        own: variables of its network.
        v: states [B, D] of the visible units.
        position: int [B], of the examples in the global batch.
        keys: one key per example [B].
    """
    theta = parameters(own)

    def contrastive() -> tuple[jax.Array, dict]:
        fixed = jax.lax.stop_gradient(theta)
        begin = own['chains']['visible'][position] if model.persistent else v
        negative = jax.lax.stop_gradient(boltzmann.gibbs(model.learning, fixed, begin, keys, model.gibbs_steps))
        free_energy = partial(model.machine.free_energy, theta)
        value = free_energy(v) - free_energy(negative)
        if not model.persistent:
            return value, {}
        chains = moved_chains(own['chains']['visible'], negative, position, model.axis)
        return value, {name: {'chains': {'visible': chains}}}

    def sparse() -> jax.Array:
        activation = hidden_means(model, own, v).mean(0)
        activation = activation if model.axis is None else jax.lax.pmean(activation, model.axis)
        return sparsity.divergence(activation, rho=model.rho)

    offered: dict[str, Callable] = {'contrastive': contrastive}
    if model.machine.log_partition is not None and model.comparable:
        offered['nll'] = lambda: -log_density(model, own, v)
    if model.hidden is not None:
        offered['squared_error'] = lambda: jax.lax.stop_gradient(error(model, own, v))
        if model.hidden is boltzmann.BINARY and model.rho:
            offered['sparsity'] = sparse
    return offered


def moved_chains(chains: jax.Array, moved: jax.Array, position: jax.Array, axis: str | None) -> jax.Array:
    """Returns all chains after a part of them moved on each device: equal on all devices.

    Args:
        chains: states [C, D] of all chains, equal on all devices.
        moved: states [B, D] of the chains that moved on this device.
        position: int [B], which chains these are; no chain moves on two devices.
        axis: mapped axis of the devices.
    """
    rows = jnp.zeros_like(chains).at[position].set(moved)
    here = jnp.zeros(len(chains)).at[position].set(1)
    if axis is not None:
        rows, here = jax.lax.psum((rows, here), axis)
    return jnp.where(here[:, None] > 0, rows, chains)


# Restricted machines: codes are the means of the hidden units.


def hidden_means(model: Boltzmann, own: Mapping[str, Any], v: jax.Array) -> jax.Array:
    """Returns E[h | v], [B, H]. own: variables of the network; v: states [B, D]."""
    assert model.hidden is not None
    return model.hidden.mean(boltzmann.hidden_field(parameters(own), v))


def visible_means(model: Boltzmann, own: Mapping[str, Any], h: jax.Array) -> jax.Array:
    """Returns E[v | h], [B, D]. own: variables of the network; h: states or means [B, H] of the hidden units."""
    return model.visible.mean(boltzmann.visible_field(parameters(own), h))


def error(model: Boltzmann, own: Mapping[str, Any], v: jax.Array) -> jax.Array:
    """Returns the squared error of one mean-field pass up and down, [B], summed over units scaled as `x` in [0, 1]."""
    unit = 1.0 if model.visible is boltzmann.BINARY else model.scale / 2
    return reconstruction.squared_error(visible_means(model, own, hidden_means(model, own, v)) * unit, v * unit)


def encode(model: Boltzmann, variables: Variables, batch: Batch) -> jax.Array:
    """Encodes examples as the probabilities of their hidden units, [B, H]."""
    return hidden_means(model, variables[NAME], states(model, batch['x']))


def decode(model: Boltzmann, variables: Variables, codes: jax.Array) -> jax.Array:
    """Decodes codes [B, H] to the means of the visible units, [B, ...]."""
    return examples(model, visible_means(model, variables[NAME], codes))


def reconstruct(model: Boltzmann, variables: Variables, batch: Batch, keys: jax.Array) -> Mapping[str, jax.Array]:
    """Reconstructs examples by one mean-field pass up and down."""
    return {'input': batch['x'], 'output': decode(model, variables, encode(model, variables, batch))}


def filters(model: Boltzmann, variables: Variables) -> jax.Array:
    """Returns the weights of each hidden unit, in the shape of an example: [H, ...]."""
    return weights_as_examples(model, variables[NAME])


def weights_as_examples(model: Boltzmann, own: Mapping[str, Any]) -> jax.Array:
    """Returns the weights of each hidden unit, in the shape of an example: [H, ...]. own: variables of the network."""
    return parameters(own).weights.T.reshape(-1, *model.shape)


# Samples.


def sample(model: Boltzmann, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Samples by a Gibbs chain per key from a draw with the base rates: the means of the last step, for images."""
    return examples(model, chain(model, variables[NAME], keys))


def chain(model: Boltzmann, own: Mapping[str, Any], keys: jax.Array) -> jax.Array:
    """Runs one Gibbs chain per key, which starts with a draw from the base rates.

    Args:
        model: the machine.
        own: variables of its network.
        keys: one key per chain [N].

    Returns:
        States [N, D]; of a restricted machine, the means of the visible units given the last hidden ones.
    """
    theta, base = parameters(own), own['buffers']['base_rates']
    steps, machine = model.sample_steps, model.machine
    v = machine.step(machine.independent(theta, base), jnp.zeros((keys.shape[0], len(base))), keys, steps)
    if model.hidden is None:
        return boltzmann.gibbs(machine, theta, v, keys, steps)
    v = boltzmann.gibbs(machine, theta, v, keys, steps - 1)
    h = model.hidden.draw(boltzmann.hidden_field(theta, v), keys, 'hidden units', steps - 1)
    return visible_means(model, own, h)


def inpaint(
    model: Boltzmann, variables: Variables, batch: Batch, mask: jax.Array, keys: jax.Array, condition: Condition
) -> jax.Array:
    """Inpaints by a Gibbs chain in which known pixels stay as they are."""
    x = batch['x']
    kept = jnp.broadcast_to(mask > 0, x.shape).reshape(len(x), -1)
    v = states(model, x)
    own = variables[NAME]
    begin = jnp.where(kept, v, jax.nn.sigmoid(own['buffers']['base_rates'])[None])  # unknown pixels stay unread
    drawn = boltzmann.gibbs(model.machine, parameters(own), begin, keys, model.sample_steps, kept)
    return jnp.where(mask > 0, x, examples(model, drawn))


# Likelihood.


def unnormalised(model: Boltzmann, own: Mapping[str, Any], v: jax.Array) -> jax.Array:
    """Returns log p(x) + log Z of states [B, D]: minus the free energy, and for Gaussian units the change of scale."""
    volume = 0.0 if model.visible is boltzmann.BINARY else v.shape[1] * math.log(model.scale)
    return -model.machine.free_energy(parameters(own), v) - volume


def log_density(model: Boltzmann, own: Mapping[str, Any], v: jax.Array) -> jax.Array:
    """Returns the exact log p(x) of states [B, D], nats, for a machine of few units."""
    assert model.machine.log_partition is not None
    return unnormalised(model, own, v) - model.machine.log_partition(parameters(own))


def log_likelihood(model: Boltzmann, variables: Variables, batch: Batch, keys: jax.Array) -> jax.Array:
    """Returns the exact log-likelihood of bits, or the log-density of values in [-1, 1), [B] nats."""
    return log_density(model, variables[NAME], states(model, batch['x']))


def log_unnormalised(model: Boltzmann, variables: Variables, batch: Batch, keys: jax.Array) -> jax.Array:
    """Returns log p(x) + log Z, [B] nats; see `log_likelihood`."""
    return unnormalised(model, variables[NAME], states(model, batch['x']))


def annealed(model: Boltzmann, variables: Variables, keys: jax.Array) -> jax.Array:
    """Returns the logs of unbiased estimates of Z, one run of annealed importance sampling per key: [N]."""
    own = variables[NAME]
    betas = boltzmann.temperatures(model.temperatures)
    return boltzmann.annealed_log_weights(model.machine, parameters(own), own['buffers']['base_rates'], keys, betas)


def measure(model: Boltzmann, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures free_energy, squared_error of a restricted machine, and the exact nll or nll_bound of few units."""
    own, v = variables[NAME], states(model, batch['x'])
    found = {'free_energy': model.machine.free_energy(parameters(own), v)}
    if model.hidden is not None:
        found['squared_error'] = error(model, own, v)
    if model.comparable and model.machine.log_partition is not None:
        log_density = log_likelihood(model, variables, batch, keys)
        if model.visible is boltzmann.BINARY:
            found['nll'] = -log_density
        else:  # of levels, bounded by the density of dequantised values
            found['nll_bound'] = v.shape[1] * math.log(128) - log_density
    return found


# From a config.


def from_config(config: ConfigDict, axis: str | None = None) -> Boltzmann:
    """Makes the machine of `config.model`, see `settings`."""
    return choices.bind(MACHINES, config.model.machine, 'config.model.machine')(config, axis)


def _restricted(config: ConfigDict, axis: str | None, *, visible: str = 'binary') -> Boltzmann:
    return restricted(config, axis, example_shape(config), config.model.latent_size, visible=visible)


def restricted(
    config: ConfigDict,
    axis: str | None,
    shape: tuple[int, ...],
    hidden_size: int,
    *,
    visible: str = 'binary',
    hidden: str = 'binary',
    images: bool = True,
    means: bool = False,
) -> Boltzmann:
    """Makes a restricted machine.

    Args:
        config: whose model has the keys of `settings` except `machine` and `latent_size`.
        axis: mapped axis of the devices.
        shape: shape of an example.
        hidden_size: number of hidden units.
        visible: kind of the visible units, binary or gaussian.
        hidden: kind of the hidden units; not both are gaussian.
        images: whether examples lie in [-1, 1]; else they lie in [0, 1].
        means: whether visible units take their means in learning.
    """
    where = 'config.model.machine.visible'
    kinds = choose(boltzmann.UNITS, visible, where), choose(boltzmann.UNITS, hidden, where)
    gaussian, size = visible == 'gaussian', math.prod(shape)
    sizes = size, hidden_size
    module = RestrictedMachine(*sizes, chains=_chains(config), gaussian=gaussian)
    machine = boltzmann.restricted(*kinds, sizes)
    fields = _fields(config, axis)
    if gaussian:
        if not config.model.deviation > 0:
            raise ConfigError(f'config.model.deviation={config.model.deviation}: give a number above 0')
        fields |= dict(offset=0.0, scale=config.model.deviation, comparable=config.data.dequantise)
    elif not images:
        fields |= dict(offset=0.0, scale=1.0, comparable=False)
    learning = boltzmann.restricted(*kinds, sizes, means=True) if means else machine
    return Boltzmann(machine, module, shape, learning=learning, visible=kinds[0], hidden=kinds[1], **fields)


def _full(config: ConfigDict, axis: str | None) -> Boltzmann:
    shape, hidden = example_shape(config), config.model.latent_size
    if hidden > HIDDEN:
        raise ConfigError(
            f'config.model.latent_size={hidden}: a full machine enumerates the states of its hidden units: give at '
            f'most {HIDDEN}'
        )
    size = math.prod(shape)
    machine = boltzmann.full(size + hidden, hidden)
    module = FullMachine(size, hidden, chains=_chains(config))
    return Boltzmann(machine, module, shape, learning=machine, hidden=None, **_fields(config, axis))


MACHINES: dict[str, Callable[..., Boltzmann]] = {'restricted': _restricted, 'full': _full}


def _chains(config: ConfigDict) -> int:
    """Returns the number of persistent chains, one per example of the global batch; 0 for none."""
    return config.data.batch_size if config.model.persistent else 0


def _fields(config: ConfigDict, axis: str | None) -> dict[str, Any]:
    """Returns the fields of a machine of binary images that come from the config."""
    for key, value in (('model.gibbs_steps', config.model.gibbs_steps), ('sample.steps', config.sample.steps)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f'config.{key}={value!r}: give a whole number, at least 1')
    if config.model.dtype != 'float32':
        raise ConfigError(
            f'config.model.dtype={config.model.dtype!r}: a free energy is the difference of large sums: leave float32'
        )
    return dict(
        offset=-1.0,
        scale=2.0,
        persistent=config.model.persistent,
        gibbs_steps=config.model.gibbs_steps,
        rho=config.model.rho,
        sample_steps=config.sample.steps,
        temperatures=config.evaluate.temperatures,
        comparable=config.data.binarise,
        axis=axis,
    )


# The start of a run.


def start(model: Boltzmann, name: str, observe: str, state: State, source: Source, placement: Any) -> State:
    """Returns the fresh state. Its visible biases are the base rates of the data, as for independent units.

    They are the biases to start from (Hinton 2010, section 8.1), and the machine that annealing starts from.

    Args:
        model: the machine of the data.
        name: name of its network.
        observe: the modelled field.
        state: before the first step.
        source: the training set.
        placement: placement of the state.
    """
    base = base_rates(model, source, observe)
    own = {'params': state.params[name], **state.stats[name]}
    if 'bias' in own['params']:  # of a full machine: the visible units come first
        key, value = 'bias', np.concatenate([base, np.zeros(len(own['params']['bias']) - len(base), np.float32)])
    else:
        key, value = 'visible', base
    place = lambda array, like: laid_out(array, like.sharding)
    params = {**own['params'], key: place(value, own['params'][key])}
    buffers = {'base_rates': place(base, own['buffers']['base_rates'])}
    return replace_networks(state, {name: {**own, 'params': params, 'buffers': buffers}})


def base_rates(model: Boltzmann, source: Source, observe: str) -> np.ndarray:
    """Returns the biases [D] of independent units with the means of the training set.

    For binary units they are log odds, and one example of each value is added to the data, so that they are finite.
    The means are over at most EXAMPLES examples, evenly spaced by index.

    Args:
        model: the machine of the data.
        source: the training set.
        observe: the modelled field.
    """
    field, number = source.fields[observe], min(len(source), EXAMPLES)
    total = np.zeros(math.prod(field.shape))
    for first in range(0, number, 256):
        indices = np.arange(first, min(first + 256, number)) * len(source) // number
        total += source.rows(indices)[observe].reshape(len(indices), -1).sum(0, dtype=np.float64)
    mean = total / number
    if is_map(field):
        mean = (mean - field.low) / (field.high - field.low) * 2 - 1
    v = (mean - model.offset) / model.scale
    if model.visible is boltzmann.BINARY:
        share = (v * number + 1) / (number + 2)
        v = np.log(share) - np.log1p(-share)
    return v.astype(np.float32)
