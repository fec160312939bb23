"""Parity with the PixelSNAIL priors of rosinality/vq-vae-2-pytorch.

python -m benchmarks.parity.rosinality_pixelsnail --source=FOLDER [--full] [--certify]
"""

import sys
import types

import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional

from benchmarks.parity import compare
from configs import prior_pixelsnail
from genlab.models import priors


def main() -> None:
    """Compares the logits of both priors, and their gradients with respect to the one-hot codes."""
    options = compare.arguments(__doc__ or '', 'a checkout of rosinality/vq-vae-2-pytorch')
    sys.path.append(str(options.source))
    import pixelsnail

    config = prior_pixelsnail.get_config('faces')
    side, entries = (8, 512) if options.full else (4, 4)
    blocks, residual, context_blocks = (4, 4, 3) if options.full else (1, 1, 1)
    size = f'{blocks} blocks, {side}x{side} codes of {entries} entries'
    certificate = compare.Certificate('rosinality_pixelsnail', options, size)
    draw = np.random.default_rng(0)
    for level, key in (('top', 'network'), ('bottom', 'lower')):
        width, inner = (256, 256) if options.full else (16, 2) if level == 'top' else (4, 3)
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
        chosen = {name: value for name, value in config.model[key].items() if name != 'name'}
        network = priors.NETWORKS['pixelsnail'](grid, **chosen)
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
        if options.fixture:
            inputs = {'x': x} if context is None else {'x': x, 'context': codes}
            compare.write_fixture(options.fixture / f'rosinality_pixelsnail-{level}.npz', tensors, inputs, output)
    certificate.write()


if __name__ == '__main__':
    main()
