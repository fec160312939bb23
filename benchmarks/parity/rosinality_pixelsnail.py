"""Parity with the PixelSNAIL priors of rosinality/vq-vae-2-pytorch.

python -m benchmarks.parity.rosinality_pixelsnail --source=FOLDER [--full] [--certify]
"""

import math
import sys
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict
from torch.nn import functional

from benchmarks.parity import compare
from configs import prior_pixelsnail
from genlab.autoregressive import tokens
from genlab.choices import options
from genlab.models import autoregressive, priors
from genlab.published import mapping
from genlab.training import optimizers
from genlab.training.optimizers import adam


def compare_step(
    certificate: compare.Certificate,
    config: ConfigDict,
    level: str,
    grid: priors.Grid,
    peer: torch.nn.Module,
    variables: Mapping[str, Any],
    batch: Mapping[str, np.ndarray],
) -> None:
    """Compares one step of Adam on the cross-entropy of codes, without dropout.

    The peer averages over the places, we sum over them; its loss is multiplied by their number here.

    Args:
      certificate: takes the figures.
      config: of the run.
      level: 'top' or 'bottom'.
      grid: of the level.
      peer: the network of the peer.
      variables: of the network.
      batch: `x` int [B, h, w], and `context` int [B, h / 2, w / 2] below another grid.
    """
    chosen = {**options(config.model['network' if level == 'top' else 'lower']), 'dropout': 0.0}
    rates = adam(3e-4)
    with compare.float64():
        network = priors.NETWORKS['pixelsnail'](grid._replace(dtype=jnp.float64), **chosen)
        values = autoregressive.categorical(tokens.codes(grid.shape, grid.entries))
        model = autoregressive.from_config(config, network, values, name=level)
        keys, optimizer = jax.random.split(jax.random.key(3), len(batch['x'])), optimizers.build(rates)

        def loss(params: Any) -> jax.Array:
            own = {level: {**variables, 'params': params}}
            offered, _ = autoregressive.terms(model, own, dict(batch), keys, jnp.zeros((), jnp.int32))
            return offered['cross_entropy'].mean()

        def step(params: Any) -> Any:
            return optimizer.update(jax.grad(loss)(params), optimizer.init(params), params)[0]

        change = compare.exactly(step, jax.tree.map(compare.wide, variables['params']))
        found = mapping.paths({level: {'params': jax.tree.map(np.asarray, change)}})
    pixelsnail = sys.modules['pixelsnail']
    pixelsnail.F = functional
    for layer in peer.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    moved = compare.Moved(peer)
    theirs = torch.optim.Adam(peer.parameters(), rates.learning_rate)
    codes, above = (None if name not in batch else torch.from_numpy(batch[name]) for name in ('x', 'context'))
    with compare.widened():
        (torch.nn.CrossEntropyLoss()(peer(codes, above)[0], codes) * math.prod(grid.shape)).backward()
    theirs.step()
    with torch.no_grad():
        peer(codes, above)  # sets the weights of later places to 0, which the step has moved
    table = compare.table_of(certificate, config, level)
    compare.compare_update(certificate, f'PixelSNAIL, Adam, {level}', table, moved.changes(), found)


def main() -> None:
    """Compares the logits of both priors, their gradients with respect to the one-hot codes, and a step of training."""
    flags = compare.arguments(__doc__ or '', 'a checkout of rosinality/vq-vae-2-pytorch')
    sys.path.append(str(flags.source))
    import pixelsnail

    config = prior_pixelsnail.get_config('faces')
    side, entries = (8, 512) if flags.full else (4, 4)
    blocks, residual, context_blocks = (4, 4, 3) if flags.full else (1, 1, 1)
    size = f'{blocks} blocks, {side}x{side} codes of {entries} entries'
    certificate = compare.Certificate('rosinality_pixelsnail', flags, size)
    draw = np.random.default_rng(0)
    for level, key in (('top', 'network'), ('bottom', 'lower')):
        width, inner = (256, 256) if flags.full else (16, 2) if level == 'top' else (4, 3)
        config.model[key].update(width=width, inner=inner, blocks=blocks, residual_blocks=residual)
        config.model[key].update(context_blocks=context_blocks)
        shape, above = (side, side), (side // 2, side // 2)
        more = dict(attention=level == 'top')
        if level == 'bottom':
            more |= dict(n_cond_res_block=context_blocks, cond_res_channel=inner)
        peer = pixelsnail.PixelSNAIL(shape, entries, width, 5, blocks, residual, inner, **more)
        background = peer.background.clone()
        compare.randomize(peer)
        peer.background.copy_(background)
        tensors = compare.tensors_of(peer)
        grid = priors.Grid(shape, entries)
        if level == 'bottom':
            grid = grid._replace(above=above, above_entries=entries)
        network = priors.NETWORKS['pixelsnail'](grid, **options(config.model[key]))
        x = draw.dirichlet(np.ones(entries), (2, *shape)).astype(np.float32)
        codes = draw.integers(0, entries, (2, *above))
        context = codes if level == 'bottom' else None
        networks = {level: (network, jnp.asarray(x), False, None, None, context)}
        variables = compare.converted(certificate, config, level, tensors, networks)[level]

        def theirs(x: torch.Tensor, peer=peer, context=context) -> torch.Tensor:
            """Gives the weights of the entries in place of the one-hot codes that the peer makes inside."""
            one_hot = lambda codes, n: x.permute(0, 2, 3, 1) if codes is given else functional.one_hot(codes, n)
            given = torch.zeros(x.shape[0], *x.shape[2:], dtype=torch.long)
            pixelsnail.F = types.SimpleNamespace(
                one_hot=one_hot, pad=functional.pad, interpolate=functional.interpolate
            )
            return peer(given, None if context is None else torch.from_numpy(context))[0]

        output = compare.compare(
            certificate,
            f'PixelSNAIL, {level}',
            theirs,
            lambda x: network.apply(variables, x, False, context=context),
            x,
        )
        if flags.fixture:
            inputs = {'x': x} if context is None else {'x': x, 'context': codes}
            compare.write_fixture(flags.fixture / f'rosinality_pixelsnail-{level}.npz', tensors, inputs, output)
        batch = {'x': np.random.default_rng(2).integers(0, entries, (2, *shape))} | (
            {} if context is None else {'context': codes}
        )
        compare_step(certificate, config, level, grid, peer, variables, batch)
    certificate.write()


if __name__ == '__main__':
    main()
