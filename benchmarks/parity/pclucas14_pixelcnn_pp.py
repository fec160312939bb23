"""Parity with PixelCNN++ of pclucas14/pixel-cnn-pp, and with its likelihood.

python -m benchmarks.parity.pclucas14_pixelcnn_pp --source=FOLDER [--full] [--certify]
"""

import sys
import types

import numpy as np
import torch

from benchmarks.parity import compare
from configs import pixelcnn_pp
from genlab.losses import mixtures
from genlab.models import priors


def main() -> None:
    """Compares the outputs and the likelihood of images of three channels."""
    options = compare.arguments(__doc__ or '', 'a checkout of pclucas14/pixel-cnn-pp')
    utils = types.ModuleType('utils')
    text = (options.source / 'utils.py').read_text().replace('print e\n', 'print(e)\n')  # it is written for Python 2
    exec(compile(text, 'utils.py', 'exec'), utils.__dict__)
    sys.modules['utils'] = utils
    sys.path.append(str(options.source))
    import model

    torch.Tensor.cuda = lambda self: self  # the likelihood puts its constants on a GPU
    config = pixelcnn_pp.get_config('cifar10')
    side, width, blocks, components = (32, 160, 5, 10) if options.full else (8, 3, 1, 2)
    config.model.network.update(width=width, blocks=blocks, mixtures=components)
    size = f'width {width}, images of {side}x{side}'
    certificate = compare.Certificate('pclucas14_pixelcnn_pp', options, size)
    peer = compare.randomize(model.PixelCNN(blocks, width, components))
    tensors = compare.tensors_of(peer)
    chosen = {name: value for name, value in config.model.network.items() if name != 'name'}
    network = priors.NETWORKS['pixelcnn_pp'](priors.Grid((side, side), 0, 3), **chosen)
    draw = np.random.default_rng(0)
    x = (draw.integers(0, 256, (2, side, side, 3)) / 127.5 - 1).astype(np.float32)
    networks = {'prior': (network, x, False)}
    variables = compare.converted(certificate, config, 'pixelcnn_pp', tensors, networks)['prior']
    channels = np.arange(9).reshape(3, 3).T.ravel()
    order = np.concatenate([[0], 1 + channels])  # of theirs: weights, then means, scales, coefficients by channel

    def theirs(x: torch.Tensor) -> torch.Tensor:
        """Returns the outputs in the order of ours."""
        outputs = peer(x)
        return outputs.reshape(len(x), 10, -1, *x.shape[2:])[:, order].reshape(outputs.shape)

    output = compare.compare(certificate, 'PixelCNN++', theirs, lambda x: network.apply(variables, x, False), x)
    with torch.no_grad():
        tensor = torch.from_numpy(x.transpose(0, 3, 1, 2))
        expected = float(utils.discretized_mix_logistic_loss(tensor, peer(tensor)))
    found = float(mixtures.mixture_of_logistics(x, output).sum())
    certificate.add('PixelCNN++, negative log-likelihood', forward=abs(found / expected - 1))
    if options.fixture:
        inputs = {'x': x, 'nll': np.float32(expected)}
        compare.write_fixture(options.fixture / 'pclucas14_pixelcnn_pp-pixelcnn_pp.npz', tensors, inputs, output)
    certificate.write()


if __name__ == '__main__':
    main()
