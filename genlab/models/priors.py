"""Priors: models of grids that predict each place from others. They model codes of a frozen tokenizer, or grey levels.

A tokenizer with several grids, such as VQ-VAE-2's, has one model per grid. The first models the coarsest grid; each
other one is conditioned on the grid before it (Razavi et al. 2019, section 3.2). Samples are decoded images.

For the arguments that all families share, see `genlab.models`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from genlab import choices
from genlab.abilities import Batch, Variables
from genlab.autoregressive import mixture, tokens
from genlab.autoregressive.tokens import Tokens
from genlab.conditioning import Condition, Conditions, null
from genlab.config import order
from genlab.data.source import example_shape
from genlab.errors import ConfigError
from genlab.losses import mixtures
from genlab.models import autoregressive, masked
from genlab.models.autoregressive import Values
from genlab.models.tokenizer import Tokenizer, levels
from genlab.networks.autoregressive.gated_pixelcnn import GatedPixelCNN
from genlab.networks.autoregressive.masked_transformer import MaskedTransformer
from genlab.networks.autoregressive.pixelcnn_pp import PixelCNNPP
from genlab.networks.autoregressive.pixelsnail import PixelSNAIL
from genlab.networks.autoregressive.transformer import Transformer, dalle_attention
from genlab.noise import stream
from genlab.training.state import Network

PLAYER = 'prior'  # the player and the network of a single grid
OF_CODES = {'nll': 'nll_codes', 'nll_bound': 'nll_codes_bound'}  # measures of a family that are not of the data

Grids = dict[str, jax.Array]  # field of a batch -> values of a grid


class Grid(NamedTuple):
    """Describes a grid of values and what its network is conditioned on."""

    shape: tuple[int, int]  # h, w
    entries: int  # number of values of a token; 0: pixels of 8 bits
    channels: int = 0  # number of channels of a pixel
    above: tuple[int, int] = (0, 0)  # shape of the grid that conditions this one; (0, 0): none
    above_entries: int = 0
    classes: int = 0
    words: int = 0
    dtype: Any = jnp.float32
    patch: tuple[int, int] = (1, 1)  # rows and columns of binary pixels that are one token


class Family(NamedTuple):
    """Holds the functions of a kind of model: those of `genlab.models.autoregressive` or `genlab.models.masked`."""

    make: Callable[..., Any]  # (config, network, grid, tokens, name) -> model
    networks: Callable[..., dict[str, Network]]
    terms: Callable[..., Any]
    sample: Callable[..., jax.Array]
    inpaint: Callable[..., jax.Array]
    measure: Callable[..., dict[str, jax.Array]]


class Level(NamedTuple):
    """Holds the model of one grid."""

    name: str  # name of the player and of the network
    model: Any  # an Autoregressive, or a Masked
    field: str = 'x'  # field of the batch, with its values
    above: str = ''  # field with the grid that conditions it; '': none


class Prior(NamedTuple):
    """Holds the models of all grids. Each but the first is conditioned on the previous grid."""

    family: Family
    levels: tuple[Level, ...]
    conditions: Conditions
    tokenizer: Tokenizer | None = None  # None: the values are those of images


def networks(prior: Prior, batch: Batch) -> dict[str, Network]:
    """Returns the networks by name, with inputs that initialise them, and those of the tokenizer."""
    found = {} if prior.tokenizer is None else prior.tokenizer.networks(batch)
    for level in prior.levels:
        found |= prior.family.networks(level.model, view(level, batch))
    return found


def view(level: Level, batch: Batch) -> dict[str, jax.Array]:
    """Returns the batch of one grid: its values as `x`, and the grid above it as `context`."""
    context = {'context': batch[level.above]} if level.above else {}
    return {**batch, 'x': batch[level.field], **context}


def terms(prior: Prior, level: Level, variables: Variables, batch: Batch, keys: jax.Array, step: jax.Array):
    """Offers the terms of the player of one grid; see `terms` of its family."""
    return prior.family.terms(level.model, variables, view(level, batch), stream(keys, level.name), step)


def draw(
    prior: Prior,
    variables: Variables,
    keys: jax.Array,
    condition: Condition,
    known: Mapping[str, jax.Array] | None = None,
    mask: jax.Array | None = None,
) -> Grids:
    """Draws the values of all grids by field, one grid after the other: codes, or images without a tokenizer.

    Args:
        prior: the model.
        variables: network -> {collection: values}.
        keys: one key per example [N].
        condition: condition of the samples, leaves [N, ...].
        known: grids by field that are kept where the mask is 1. A grid without an entry is drawn as a whole.
        mask: mask of images, as for `inpaint`; None: grids of `known` are kept as a whole.
    """
    grids: Grids = {}
    for level in prior.levels:
        kept = None if known is None else known.get(level.field)
        if kept is not None and mask is None:
            grids[level.field] = kept
            continue
        keyed = stream(keys, level.name)
        given = {**condition, 'context': grids[level.above]} if level.above else condition
        if kept is None or mask is None:
            grids[level.field] = prior.family.sample(level.model, variables, keyed, given)
        else:
            grids[level.field] = prior.family.inpaint(level.model, variables, {'x': kept}, mask, keyed, given)
    return grids


def decode(prior: Prior, variables: Variables, grids: Grids) -> jax.Array:
    """Returns the images [N, H, W, C] of the values that `draw` returns."""
    codes: Any = grids if len(prior.levels) > 1 else grids[prior.levels[0].field]
    return codes if prior.tokenizer is None else prior.tokenizer.decode(variables, codes)


def sample(prior: Prior, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
    """Draws one image per key."""
    return decode(prior, variables, draw(prior, variables, keys, condition))


def sample_with_likelihood(
    prior: Prior, variables: Variables, keys: jax.Array, condition: Condition
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws images as `sample` does, of an autoregressive prior, and the log-likelihoods [N] of their codes or pixels.

    The first is given the condition, the second given the null condition, in nats. Filters and guidance change neither.
    """
    grids = draw(prior, variables, keys, condition)
    length = condition['caption'].shape[1] if prior.conditions.words else 0
    given, alone = (
        log_likelihood(prior, variables, {**condition, **grids}, keys)
        for condition in (condition, null(prior.conditions, len(keys), length))
    )
    return decode(prior, variables, grids), given, alone


def inpaint(
    prior: Prior, variables: Variables, batch: Batch, mask: jax.Array, keys: jax.Array, condition: Condition
) -> jax.Array:
    """Draws the pixels where the mask is 0, and keeps the others; see `inpaint` of the family.

    With a tokenizer, the codes are kept at the places of each grid whose pixels are all known, and the others drawn.
    The unknown pixels do not enter the codes: the encoder sees the mean colour of the known ones in their place.

    Args:
        prior: the model.
        variables: network -> {collection: values}.
        batch: prepared batch of images, also of a prior over codes: `x` [B, H, W, C] holds the known pixels.
        mask: 1 at known pixels and 0 elsewhere, [B, H, W, 1].
        keys: one key per example [B].
        condition: condition of the samples, leaves [B, ...].

    Returns:
        Images [B, H, W, C].
    """
    x = batch['x']
    if prior.tokenizer is None:
        known = {prior.levels[0].field: x}
    else:
        mean = (x * mask).sum((1, 2), keepdims=True) / jnp.maximum(mask.sum((1, 2), keepdims=True), 1)
        known = levels(prior.tokenizer.encode(variables, {**batch, 'x': jnp.where(mask > 0, x, mean)}))
    drawn = decode(prior, variables, draw(prior, variables, keys, condition, known, mask))
    return jnp.where(mask > 0, x, drawn)  # a code or a patch that is known in part was drawn as a whole


def redraw(prior: Prior, variables: Variables, batch: Batch, keys: jax.Array, condition: Condition) -> jax.Array:
    """Draws the finer grids again under the coarsest grid of codes of images `batch['x']` [B, H, W, C]."""
    assert prior.tokenizer is not None
    coarsest = prior.levels[0].field
    top = levels(prior.tokenizer.encode(variables, batch))[coarsest]
    return decode(prior, variables, draw(prior, variables, keys, condition, {coarsest: top}))


def measure(prior: Prior, variables: Variables, batch: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """Measures what the family does, in nats per example, summed over the grids.

    With a tokenizer, `nll` and `nll_bound` are named `nll_codes` and `nll_codes_bound`: they are of codes, not of data.
    """
    found: dict[str, jax.Array] = {}
    for level in prior.levels:
        keyed = stream(keys, level.name)
        for name, value in prior.family.measure(level.model, variables, view(level, batch), keyed).items():
            if prior.tokenizer is not None:
                name = OF_CODES.get(name, name)
            found[name] = found[name] + value if name in found else value
    return found


def log_likelihood(prior: Prior, variables: Variables, batch: Batch, keys: jax.Array) -> jax.Array:
    """Computes the exact log-likelihood of an autoregressive prior, nats [B]. The keys are ignored.

    It is the likelihood of the data, or with a tokenizer of the codes. `batch` has a field for each grid.
    """
    return -measure(prior, variables, batch, keys)['nll' if prior.tokenizer is None else OF_CODES['nll']]


def from_config(config: ConfigDict, tokenizer: Tokenizer | None = None) -> Prior:
    """Makes the prior of `config.model`: see `settings` of its family, which the network decides.

    Args:
        config: config of the run. `config.model.network` models the first grid, `config.model.lower` each other one.
        tokenizer: whose codes are modelled; None: the pixels of `config.data`.

    Raises:
        ConfigError: parts of the config contradict each other, or a choice is unknown.
    """
    model, made, family = config.model, [], family_of(config)
    grids = {'x': pixels(config)} if tokenizer is None else code_grids(tokenizer)
    if tokenizer is not None and tuple(model.patch) != (1, 1):
        raise ConfigError(
            f'config.model.patch={tuple(model.patch)}: only binary pixels form patches, not codes: set it to (1, 1)'
        )
    shared: dict[str, Any] = dict(classes=model.classes, words=model.words, dtype=jnp.dtype(model.dtype))
    above, above_grid = '', Grid((0, 0), 0)
    if len(grids) == 1:  # a check: there is no other grid
        choices.bind({'none': lambda: None, **NETWORKS}, model.lower, 'config.model.lower')
    for field, grid in grids.items():
        name = PLAYER if len(grids) == 1 else field
        grid = grid._replace(above=above_grid.shape, above_entries=above_grid.entries, **shared)
        where = 'config.model.lower' if above else 'config.model.network'
        network = choices.bind(NETWORKS, model.lower if above else model.network, where)(grid)
        made.append(Level(name, family.make(config, network, grid, _tokens(grid, tokenizer), name), field, above))
        above, above_grid = field, grid
    return Prior(family, tuple(made), Conditions(model.classes, model.words), tokenizer)


def family_of(config: ConfigDict) -> Family:
    """Returns the family that the network belongs to. Raises ConfigError if the config has the settings of another."""
    name = config.model.network.name
    if (name == 'masked_transformer') == ('schedule' in config.model):
        return MASKED if 'schedule' in config.model else AUTOREGRESSIVE
    kind, other = ('masked', 'prior_maskgit') if 'schedule' not in config.model else ('autoregressive', 'pixelcnn')
    raise ConfigError(
        f'config.model.network={name}: this is a {kind} network, with other settings: take configs/{other}.py'
    )


def code_grids(tokenizer: Tokenizer) -> dict[str, Grid]:
    """Returns the grids of a tokenizer by field, the coarsest first."""
    entries = levels(tokenizer.entries)
    return {field: Grid(shape, entries[field]) for field, shape in levels(tokenizer.shapes).items()}


def pixels(config: ConfigDict) -> Grid:
    """Returns the grid of the pixels of `config.data`: tokens of bits or 256 levels, or colours as pixels."""
    height, width, channels = example_shape(config)
    rows, columns = config.model.patch
    if config.data.dequantise:
        raise ConfigError('config.data.dequantise=True: a model of pixel levels needs whole levels: set it to False')
    if (rows, columns) != (1, 1):
        _check_patch(config, rows, columns)
    if config.model.network.name == 'pixelcnn_pp':
        if config.data.binarise:
            raise ConfigError('config.data.binarise=True: pixelcnn_pp models 256 levels: set it to False')
        return Grid((height, width), 0, channels)
    if channels != 1:
        raise ConfigError(
            f'config.data.channels={channels}: tokens are grey levels: set it to 1, or config.model.network to '
            'pixelcnn_pp'
        )
    if config.data.binarise:
        return Grid((height // rows, width // columns), 2 ** (rows * columns), patch=(rows, columns))
    return Grid((height, width), 256)


def _check_patch(config: ConfigDict, rows: int, columns: int) -> None:
    height, width, _ = example_shape(config)
    given = f'config.model.patch={(rows, columns)}'
    if not config.data.binarise or config.model.network.name == 'pixelcnn_pp':
        raise ConfigError(f'{given}: only tokens of binary pixels form patches: set it to (1, 1)')
    if min(rows, columns) < 1 or height % rows or width % columns:
        raise ConfigError(f'{given}: it must divide images of {height}x{width}')
    if rows * columns > 9:
        raise ConfigError(f'{given}: {2 ** (rows * columns):,} different patches are too many: at most 9 pixels')


def _tokens(grid: Grid, tokenizer: Tokenizer | None) -> Tokens:
    if grid.patch != (1, 1):
        return tokens.patches(grid.shape, grid.patch)
    return (tokens.levels if tokenizer is None else tokens.codes)(grid.shape, grid.entries)


def colours(grid: Grid, temperature: float) -> Values:
    """Returns the values of PixelCNN++: pixels in [-1, 1], and mixtures of discretised logistics."""
    return Values(
        grid.shape,
        lambda x: x,
        lambda values: values,
        mixtures.mixture_of_logistics,
        functools.partial(mixture.sample, channels=grid.channels, temperature=temperature),
        grid.channels,
        mixes=False,
    )


def _autoregressive(config: ConfigDict, network: nn.Module, grid: Grid, tokens: Tokens, name: str):
    filters = autoregressive.sampling_filters(config)
    values = autoregressive.categorical(tokens, filters) if grid.entries else colours(grid, filters.temperature)
    joint = 'text' in config.losses[name] if name in order(config) else False
    return autoregressive.from_config(config, network, values, name=name, joint=joint)


def _masked(config: ConfigDict, network: nn.Module, grid: Grid, tokens: Tokens, name: str):
    return masked.from_config(config, network, tokens, name=name)


AUTOREGRESSIVE = Family(
    _autoregressive,
    autoregressive.networks,
    autoregressive.terms,
    autoregressive.sample,
    autoregressive.inpaint,
    autoregressive.measure,
)
MASKED = Family(_masked, masked.networks, masked.terms, masked.sample, masked.inpaint, masked.measure)


def _gated_pixelcnn(grid: Grid, *, width: int, layers: int, output_width: int = 256, dropout: float = 0.0):
    return GatedPixelCNN(
        grid.shape,
        grid.entries,
        width=width,
        layers=layers,
        output_width=output_width,
        classes=grid.classes,
        context=grid.above_entries,
        dropout=dropout,
        dtype=grid.dtype,
    )


def _pixelcnn_pp(
    grid: Grid,
    *,
    width: int = 160,
    blocks: int = 5,
    mixtures: int = 10,
    levels: int = 3,
    dropout: float = 0.5,
    edge_bias: bool = True,
):
    return PixelCNNPP(
        grid.shape,
        grid.channels,
        mixtures=mixtures,
        width=width,
        blocks=blocks,
        levels=levels,
        classes=grid.classes,
        dropout=dropout,
        edge_bias=edge_bias,
        dtype=grid.dtype,
    )


def _pixelsnail(
    grid: Grid,
    *,
    width: int = 256,
    inner: int = 0,
    kernel_size: int = 5,
    blocks: int = 4,
    residual_blocks: int = 4,
    output_blocks: int = 0,
    attention: bool = True,
    heads: int = 8,
    context_blocks: int = 3,
    dropout: float = 0.1,
    raster: bool = True,
):
    return PixelSNAIL(
        grid.shape,
        grid.entries,
        width=width,
        inner=inner,
        kernel_size=kernel_size,
        blocks=blocks,
        residual_blocks=residual_blocks,
        output_blocks=output_blocks,
        attention=attention,
        heads=heads,
        classes=grid.classes,
        context=grid.above_entries,
        context_blocks=context_blocks,
        dropout=dropout,
        raster=raster,
        dtype=grid.dtype,
    )


def _transformer(
    grid: Grid,
    *,
    width: int = 256,
    depth: int = 8,
    heads: int = 8,
    length: int = 0,
    attention: tuple[str, ...] = ('full',),
    kernel: int = 11,
    positions: str = 'grid',
    dropout: float = 0.0,
):
    return Transformer(
        attention=dalle_attention(depth) if attention == ('dalle',) else attention,
        kernel=kernel,
        **_attending(grid, width, depth, heads, length, positions, dropout),
    )


def _masked_transformer(
    grid: Grid,
    *,
    width: int = 256,
    depth: int = 8,
    heads: int = 8,
    length: int = 0,
    positions: str = 'sequence',
    dropout: float = 0.0,
):
    return MaskedTransformer(**_attending(grid, width, depth, heads, length, positions, dropout))


def _attending(
    grid: Grid, width: int, depth: int, heads: int, length: int, positions: str, dropout: float
) -> dict[str, Any]:
    """Returns the fields that both transformers have."""
    return dict(
        shape=grid.shape,
        entries=grid.entries,
        width=width,
        depth=depth,
        heads=heads,
        classes=grid.classes,
        words=grid.words,
        length=length,
        context=grid.above,
        context_entries=grid.above_entries,
        positions=positions,
        dropout=dropout,
        dtype=grid.dtype,
    )


# Name -> the network of a grid; the keyword arguments are the options.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    'gated_pixelcnn': _gated_pixelcnn,
    'pixelcnn_pp': _pixelcnn_pp,
    'pixelsnail': _pixelsnail,
    'transformer': _transformer,
    'masked_transformer': _masked_transformer,
}
