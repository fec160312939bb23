"""CycleGAN (Zhu et al. 2017): two generators between two domains of images, learned without pairs.

`forward` maps inputs, a field of the batch, to targets, its `x`; `back` maps targets to inputs. Each has a patch
discriminator of its outputs, which sees fakes from a pool of earlier ones. For the arguments that all families share,
see `genlab.models`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.conditioning import Condition
from genlab.errors import ConfigError, choose
from genlab.losses.adversarial import PAIRS, Pair
from genlab.losses.reconstruction import mean_absolute_error
from genlab.models import patches, translation
from genlab.models.adversarial import STATES
from genlab.noise import stream, uniform
from genlab.training.state import Network

FORWARD, BACK = 'forward', 'back'
DIRECTIONS = {FORWARD: BACK, BACK: FORWARD}  # direction -> the other one
GENERATORS = tuple(DIRECTIONS)
DISCRIMINATORS = tuple(f'discriminator_{name}' for name in DIRECTIONS)


def settings(generator: ConfigDict, discriminator: ConfigDict, **changes: Any) -> dict[str, Any]:
    """Returns `config.model` of a CycleGAN, with changes."""
    pool = changes.pop('pool', 50)
    known = translation.settings(generator, discriminator, **{'pair': 'least_squares', **changes})
    del known['map_classes']
    return known | {'pool': pool}  # earlier fakes that discriminators see; 0: only new ones


def sampling() -> dict[str, Any]:
    """Returns the keys that a CycleGAN adds to `config.sample`."""
    return dict(direction=FORWARD)  # of samples: forward, from inputs to targets, or back


class CycleGAN(NamedTuple):
    """Holds the networks of both directions, and where their images come from."""

    generators: Mapping[str, nn.Module]  # direction -> (images [B, H, W, C], train, keys=) -> images [B, H, W, C]
    discriminators: Mapping[str, nn.Module]  # direction -> images that it makes -> logits of patches [B, h, w]
    pool: 'Pool'
    pair: Pair
    input: str  # field of the batch
    target: str  # the field that is `x`
    direction: str  # direction of samples

    @property
    def condition(self) -> str:
        """Returns the field that is translated for samples."""
        return self.input if self.direction == FORWARD else self.target

    @property
    def made(self) -> str:
        """Returns the field that samples resemble."""
        return self.target if self.direction == FORWARD else self.input


class Pool(nn.Module):
    """Holds fakes of earlier steps of both directions, equal on all devices (Zhu et al. 2017, section 4).

    It belongs to the global batch: all devices fill it with the fakes of all of them. `size`: images per direction.
    """

    size: int
    axis: str | None = None

    @nn.compact
    def __call__(self, fakes: Mapping[str, jax.Array], keys: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Returns the images that discriminators see in place of fakes, and keeps some of the fakes.

        Args:
            fakes: direction -> images [B, H, W, C].
            keys: one key per example [B].
            train: whether to change the pool; else the fakes are returned.
        """
        held = {
            name: self.variable('pool', name, jnp.zeros, (self.size, *images.shape[1:]), jnp.float32)
            for name, images in fakes.items()
        }
        count = self.variable('pool', 'count', jnp.zeros, (), jnp.int32)
        if not train or self.is_initializing():
            return {**fakes}
        seen, before, number = {}, count.value, keys.shape[0]
        for name, images in fakes.items():
            new, draws = jax.lax.stop_gradient(images), uniform(keys, (2,), f'pool {name}')
            first: jax.Array | int = 0
            if self.axis is not None:
                new, draws = jax.lax.all_gather((new, draws), self.axis, tiled=True)
                first = jax.lax.axis_index(self.axis) * number
            shown, places = exchange(before, draws, self.size)
            shown, old = jax.lax.dynamic_slice_in_dim(shown, first, number), held[name].value
            fresh = (shown >= self.size)[:, None, None, None]
            seen[name] = jnp.where(
                fresh, new[jnp.maximum(shown - self.size, 0)], old[jnp.minimum(shown, self.size - 1)]
            )
            held[name].value = old.at[places].set(new, mode='drop')
            count.value = jnp.minimum(before + len(new), self.size)
        return seen


def exchange(count: jax.Array, draws: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Decides for each image what the pool returns and keeps (Shrivastava et al. 2017, section 2.3).

    While the pool has room, the image is returned and kept. After that, with probability 1/2, it is returned and not
    kept. Otherwise it replaces a random image of the pool, which is returned.

    Args:
        count: images in the pool, int32 [].
        draws: uniform numbers [B, 2] in [0, 1): whether to exchange, and which place.
        size: places P of the pool.

    Returns:
        The images to return [B]: a place of the old pool, or P + i for image i of the batch. And the place [B] of each
        image of the batch in the new pool, P for none.
    """

    def one(carry: tuple[jax.Array, jax.Array], given: tuple[jax.Array, jax.Array]):
        (slots, count), (draw, new) = carry, given
        place = jnp.where(count < size, count, jnp.minimum((draw[1] * size).astype(jnp.int32), size - 1))
        exchanged = (count >= size) & (draw[0] >= 0.5)
        shown = jnp.where(exchanged, slots[place], new)
        kept = exchanged | (count < size)
        slots = slots.at[place].set(jnp.where(kept, new, slots[place]))
        return (slots, jnp.minimum(count + 1, size)), shown

    numbers = size + jnp.arange(len(draws), dtype=jnp.int32)
    begin = jnp.arange(size, dtype=jnp.int32), count
    (slots, _), shown = jax.lax.scan(one, begin, (draws, numbers))
    held = slots[None] == numbers[:, None]
    return shown, jnp.where(held.any(1), held.argmax(1), size)


def domains(model: CycleGAN, batch: Batch) -> dict[str, jax.Array]:
    """Returns direction -> the images of the batch that it translates."""
    return {FORWARD: batch[model.input], BACK: batch['x']}


def networks(model: CycleGAN, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them.

    Raises:
        ConfigError: inputs are maps of classes, or have other channels than targets.
    """
    given, x = translation.input_of(model.input, batch), batch['x']
    if not jnp.issubdtype(given.dtype, jnp.floating) or given.shape != x.shape:
        raise ConfigError(
            f'config.model.input={model.input!r}: CycleGAN translates images of {x.shape[-1]} channels both ways: '
            'choose a field of such images'
        )
    found = {name: Network(module, (x, False)) for name, module in model.generators.items()}
    found |= {f'discriminator_{name}': Network(module, (x, False)) for name, module in model.discriminators.items()}
    if model.pool.size:
        keys = jax.vmap(jax.random.key)(jnp.arange(len(x)))
        found['pool'] = Network(model.pool, (dict.fromkeys(DIRECTIONS, x), keys, False))
    return found


def updated(model: CycleGAN, player: str) -> tuple[str, ...]:
    """Returns the networks whose state collections a player writes."""
    if player == 'generator':
        return GENERATORS
    return (*DISCRIMINATORS, 'pool') if model.pool.size else DISCRIMINATORS


def generate(
    model: CycleGAN, variables: Variables, images: jax.Array, direction: str, keys: jax.Array, use: str
) -> tuple[jax.Array, dict]:
    """Translates images [B, H, W, C] in training mode. Returns images of the same shape and the new collections.

    Args:
        model: the model.
        variables: variables of the networks.
        images: images.
        direction: forward or back.
        keys: one key per example [B].
        use: name of the use, which has noise of its own.
    """
    return translation.generate(
        model.generators[direction], variables[direction], images, stream(keys, f'{direction} {use}')
    )


def discriminator_terms(model: CycleGAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers for each direction adversarial_*, and the diagnostic logit_gap_* = D(real) - D(fake).

    The discriminator of a direction judges the outputs of that direction: for `forward`, targets.
    """
    given = domains(model, batch)
    fakes = {name: generate(model, variables, given[name], name, keys, 'fake')[0] for name in DIRECTIONS}
    terms, new = {}, {}
    if model.pool.size:
        arguments = variables['pool'], fakes, keys, True
        fakes, new['pool'] = cast(tuple[Any, dict], model.pool.apply(*arguments, mutable=STATES))
    for name, other in DIRECTIONS.items():
        network = f'discriminator_{name}'
        real, fake, new[network] = patches.compare(
            model.discriminators[name], variables[network], given[other], fakes[name]
        )
        terms[f'adversarial_{name}'] = patches.per_example(model.pair.discriminator, real, fake)
        terms[f'logit_gap_{name}'] = (real - fake).mean((1, 2))
    return terms, new


def generator_terms(model: CycleGAN, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers for each direction adversarial_*, cycle_* and identity_*.

    cycle_forward: error of inputs, translated forward and then back. cycle_back: the same for targets (equation 2).
    identity_forward: error of targets, which `forward` should not change. identity_back: the same for inputs (section
    5.2). All are mean absolute errors of values in [-1, 1].
    """
    given = domains(model, batch)
    terms: dict[str, Any] = {}
    new = {}
    for name, other in DIRECTIONS.items():
        fake, new[name] = generate(model, variables, given[name], name, keys, 'fake')
        error = partial(_error, model, variables, keys)
        terms |= {
            f'adversarial_{name}': partial(_adversarial, model, variables, name, fake, given[other]),
            f'cycle_{name}': partial(error, 'cycle', other, fake, given[name]),
            f'identity_{name}': partial(error, 'identity', name, given[other], given[other]),
        }
    return terms, new


def _adversarial(model: CycleGAN, variables: Variables, direction: str, fake: jax.Array, real: jax.Array) -> jax.Array:
    """Returns the generator's loss [B] of fakes [B, H, W, C] of a direction."""
    network = model.discriminators[direction], variables[f'discriminator_{direction}']
    logits = [patches.judge(*network, images)[0] for images in (fake, real)]
    return patches.per_example(model.pair.generator, *logits)


def _error(
    model: CycleGAN,
    variables: Variables,
    keys: jax.Array,
    use: str,
    direction: str,
    images: jax.Array,
    target: jax.Array,
) -> jax.Array:
    """Returns the mean absolute error [B] between translated images and a target; see `generate` for the others."""
    return mean_absolute_error(generate(model, variables, images, direction, keys, use)[0], target)


def translate(model: CycleGAN, variables: Variables, images: jax.Array, direction: str, keys: jax.Array) -> jax.Array:
    """Translates images [B, H, W, C] outside of training; see `generate` for the arguments."""
    return translation.translate(model.generators[direction], variables[direction], images, stream(keys, direction))


def sample(model: CycleGAN, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Translates the images of conditions in the direction of samples."""
    return translate(model, variables, condition[model.condition], model.direction, keys)


def there_and_back(
    model: CycleGAN, variables: Variables, images: jax.Array, direction: str, keys: jax.Array
) -> jax.Array:
    """Translates images [B, H, W, C] in a direction, then back to their own domain."""
    made = translate(model, variables, images, direction, keys)
    return translate(model, variables, made, DIRECTIONS[direction], keys)


def reconstruct(model: CycleGAN, variables: Variables, batch: Batch, keys: jax.Array) -> Mapping[str, jax.Array]:
    """Translates targets to the domain of inputs, and these to targets again."""
    return {'input': batch['x'], 'output': there_and_back(model, variables, batch['x'], BACK, keys)}


def measure(model: CycleGAN, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures cycle_forward and cycle_back: mean absolute errors of both cycles, of values in [-1, 1]."""
    return {
        f'cycle_{name}': mean_absolute_error(there_and_back(model, variables, images, name, keys), images)
        for name, images in domains(model, batch).items()
    }


def from_config(config: ConfigDict, axis: str | None) -> CycleGAN:
    """Makes the model of `config.model`, see `settings`."""
    model = config.model
    discriminator = choices.bind(patches.DISCRIMINATORS, model.discriminator, 'config.model.discriminator')
    if model.pool < 0:
        raise ConfigError(f'config.model.pool={model.pool}: give a number of images, 0 for no pool')
    choose(DIRECTIONS, config.sample.direction, 'config.sample.direction')
    return CycleGAN(
        {name: translation.generator(config, axis) for name in DIRECTIONS},
        {name: discriminator(config, axis) for name in DIRECTIONS},
        Pool(model.pool, axis),
        choose(PAIRS, model.pair, 'config.model.pair'),
        model.input,
        config.data.observe,
        config.sample.direction,
    )
