"""The Inception network that defines the Frechet inception distance, in Flax, with weights from a file.

It is Inception v3 (Szegedy et al. 2016, "Rethinking the Inception architecture", table 1) as in TensorFlow's graph of
2015-12-05, which Heusel et al. 2017 and Salimans et al. 2016 use. It differs from the paper in three ways. Averages at
the border are over existing pixels only. The last block pools by the maximum, all others by the average. There are
1,008 classes. Names follow the public PyTorch port, so that pt_inception-2015-12-05-6726825d.pth (mseitzer/pytorch-fid)
maps name by name. Nothing is downloaded.

    python -m genlab.evaluation.features.inception pt_inception-2015-12-05-6726825d.pth inception.npz

writes the same arrays as .npz. 21,785,568 parameters up to the features, 23,850,960 with the classes.
"""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genlab.errors import ConfigError, UserError
from genlab.networks.layers.convolution import Conv
from genlab.published import torch_file

SIDE = 299  # side of an input image, in pixels
FEATURES, CLASSES = 2048, 1008
FILE = 'pt_inception-2015-12-05-6726825d.pth'
# Names of leaves: in Flax -> in the file.
LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}


class Unit(nn.Module):
    """A convolution, batch normalisation with stored statistics, and ReLU."""

    features: int
    size: tuple[int, int]
    stride: int = 1
    padding: str = 'SAME'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv(self.features, self.size, (self.stride, self.stride), self.padding, use_bias=False, name='conv')(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name='bn')(x))


def average(x: jax.Array) -> jax.Array:
    """Averages each 3x3 window, at the border over the existing pixels."""
    return nn.avg_pool(x, (3, 3), padding='SAME', count_include_pad=False)


def maximum(x: jax.Array) -> jax.Array:
    """Returns the maximum of each 3x3 window."""
    return nn.max_pool(x, (3, 3), padding='SAME')


def halved(x: jax.Array) -> jax.Array:
    """Returns the maximum of every second 3x3 window within the map."""
    return nn.max_pool(x, (3, 3), (2, 2))


def chain(x: jax.Array, *units: tuple) -> jax.Array:
    """Applies `Unit`s in sequence, each (name, features, height, width[, stride]); a stride given means 2, unpadded."""
    for name, features, height, width, *stride in units:
        x = Unit(features, (height, width), *(stride and (2, 'VALID')), name=name)(x)
    return x


def join(*branches: jax.Array) -> jax.Array:
    """Concatenates branches along the channels."""
    return jnp.concatenate(branches, axis=-1)


class BlockA(nn.Module):
    """35x35, with kernels of size 1, 5, and two of size 3 (figure 5)."""

    pooled: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return join(
            chain(x, ('branch1x1', 64, 1, 1)),
            chain(x, ('branch5x5_1', 48, 1, 1), ('branch5x5_2', 64, 5, 5)),
            chain(x, ('branch3x3dbl_1', 64, 1, 1), ('branch3x3dbl_2', 96, 3, 3), ('branch3x3dbl_3', 96, 3, 3)),
            chain(average(x), ('branch_pool', self.pooled, 1, 1)),
        )


class BlockB(nn.Module):
    """35x35 -> 17x17 (figure 10)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return join(
            chain(x, ('branch3x3', 384, 3, 3, 2)),
            chain(x, ('branch3x3dbl_1', 64, 1, 1), ('branch3x3dbl_2', 96, 3, 3), ('branch3x3dbl_3', 96, 3, 3, 2)),
            halved(x),
        )


class BlockC(nn.Module):
    """17x17, with kernels of size 7 factorised into a row and a column (figure 6)."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, seven, double = self.width, 'branch7x7_', 'branch7x7dbl_'
        return join(
            chain(x, ('branch1x1', 192, 1, 1)),
            chain(x, (f'{seven}1', width, 1, 1), (f'{seven}2', width, 1, 7), (f'{seven}3', 192, 7, 1)),
            chain(
                x,
                (f'{double}1', width, 1, 1),
                (f'{double}2', width, 7, 1),
                (f'{double}3', width, 1, 7),
                (f'{double}4', width, 7, 1),
                (f'{double}5', 192, 1, 7),
            ),
            chain(average(x), ('branch_pool', 192, 1, 1)),
        )


class BlockD(nn.Module):
    """17x17 -> 8x8."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return join(
            chain(x, ('branch3x3_1', 192, 1, 1), ('branch3x3_2', 320, 3, 3, 2)),
            chain(
                x,
                ('branch7x7x3_1', 192, 1, 1),
                ('branch7x7x3_2', 192, 1, 7),
                ('branch7x7x3_3', 192, 7, 1),
                ('branch7x7x3_4', 192, 3, 3, 2),
            ),
            halved(x),
        )


class BlockE(nn.Module):
    """8x8, with kernels of size 3 that end in a row and a column in parallel (figure 7)."""

    last: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        three = chain(x, ('branch3x3_1', 384, 1, 1))
        double = chain(x, ('branch3x3dbl_1', 448, 1, 1), ('branch3x3dbl_2', 384, 3, 3))
        return join(
            chain(x, ('branch1x1', 320, 1, 1)),
            chain(three, ('branch3x3_2a', 384, 1, 3)),
            chain(three, ('branch3x3_2b', 384, 3, 1)),
            chain(double, ('branch3x3dbl_3a', 384, 1, 3)),
            chain(double, ('branch3x3dbl_3b', 384, 3, 1)),
            chain(maximum(x) if self.last else average(x), ('branch_pool', 192, 1, 1)),
        )


class Inception(nn.Module):
    """Maps images [B, 299, 299, 3] in [-1, 1] to (features [B, 2048], logits [B, 1008] with the bias)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = Unit(32, (3, 3), 2, 'VALID', name='Conv2d_1a_3x3')(x)
        x = Unit(32, (3, 3), 1, 'VALID', name='Conv2d_2a_3x3')(x)
        x = halved(Unit(64, (3, 3), name='Conv2d_2b_3x3')(x))
        x = Unit(80, (1, 1), name='Conv2d_3b_1x1')(x)
        x = halved(Unit(192, (3, 3), 1, 'VALID', name='Conv2d_4a_3x3')(x))
        for letter, pooled in zip('bcd', (32, 64, 64)):
            x = BlockA(pooled, name=f'Mixed_5{letter}')(x)
        x = BlockB(name='Mixed_6a')(x)
        for letter, width in zip('bcde', (128, 160, 160, 192)):
            x = BlockC(width, name=f'Mixed_6{letter}')(x)
        x = BlockD(name='Mixed_7a')(x)
        x = BlockE(name='Mixed_7b')(x)
        x = BlockE(last=True, name='Mixed_7c')(x)
        features = x.mean((1, 2))
        return features, nn.Dense(CLASSES, name='fc')(features)


def resized(images: jax.Array) -> jax.Array:
    """Resizes images as the port does for 8-bit files: [N, H, W, 1 or 3] -> [N, 299, 299, 3], both in [-1, 1].

    Values are rounded to the 256 levels; grey is repeated. The resize is bilinear between pixel centres without
    antialiasing (torch's interpolate with align_corners=False). The port scales [0, 1] to [-1, 1], which is the range
    here. TensorFlow's graph samples at i * H / 299 instead of pixel centres, so its figures differ slightly.
    """
    levels = jnp.round((jnp.clip(images, -1, 1) + 1) * 127.5)
    coloured = jnp.broadcast_to(levels / 127.5 - 1, (*images.shape[:3], 3))
    return jax.image.resize(coloured, (len(images), SIDE, SIDE, 3), 'bilinear', antialias=False)


def features(variables: Any, images: jax.Array) -> jax.Array:
    """Returns features [N, 2048] of images [N, H, W, 1 or 3] in [-1, 1]."""
    return Inception().apply(variables, resized(images))[0]


def probabilities(variables: Any, features: np.ndarray) -> np.ndarray:
    """Returns class probabilities [N, 1008] of features [N, 2048]: the softmax without the bias.

    The Inception Score uses them: in Salimans et al. 2016, section 4, the program multiplies the features by the
    weights of the last layer alone.
    """
    return np.asarray(jax.nn.softmax(jnp.dot(features, variables['params']['fc']['kernel'], precision='highest')))


def template() -> dict:
    """Returns the variables as shapes."""
    return jax.eval_shape(Inception().init, jax.random.key(0), jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32))


def name_of(path: tuple) -> str:
    """Returns the name in the file for a leaf of the variables: Mixed_5b.branch1x1.bn.running_mean."""
    *modules, leaf = (key.key for key in path[1:])
    return '.'.join([*modules, LEAVES[leaf]])


def load(path: str | Path) -> tuple[dict, str]:
    """Loads the variables from the .pth file, or from an .npz converted from it.

    Returns (variables, the first 8 hexadecimal digits of the .pth file's SHA-256).
    """
    if not Path(path).expanduser().is_file():
        raise ConfigError(
            f'config.evaluate.features_file={str(path)!r}: there is no such file; give the path of {FILE} '
            '(a release file of mseitzer/pytorch-fid) or of an .npz converted from it, or choose other features'
        )
    path = Path(path).expanduser()
    arrays, checksum = _read_npz(path) if path.suffix == '.npz' else _read_pth(path)
    return from_arrays(arrays, path), checksum


def from_arrays(arrays: dict[str, np.ndarray], path: str | Path) -> dict:
    """Converts arrays, named as in the file, to variables. `path` is for the error message about a missing array."""

    def leaf(place: tuple, expected: jax.ShapeDtypeStruct) -> jax.Array:
        array = arrays.get(name_of(place))
        kernel = None if array is None else array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        if kernel is None or kernel.shape != expected.shape:
            raise ConfigError(f'{path} is not {FILE}: {name_of(place)} is missing or has another shape')
        return jnp.asarray(kernel, jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, template())


def convert(source: str | Path, target: str | Path) -> None:
    """Writes the arrays of a .pth file, and its checksum, as .npz."""
    if Path(target).suffix != '.npz':
        raise UserError(f'{target}: the name must end in .npz')
    _, checksum = load(source)  # raises if it is not this network
    arrays: dict[str, Any] = {'checksum': checksum, **torch_file.read(source)}
    np.savez(target, **arrays)


def _read_pth(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Returns the arrays and the checksum, which must match the checksum in the file name, if there is one."""
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    named = re.search(r'-([0-9a-f]{8})\.pth$', path.name)
    if named and named[1] != checksum:
        raise ConfigError(f'{path}: its SHA-256 begins with {checksum}, not with {named[1]}: copy the file again')
    return torch_file.read(path), checksum


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Returns the arrays and the checksum of a converted file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        return arrays, str(arrays.pop('checksum'))
    except Exception as error:  # a damaged archive can raise anything
        raise ConfigError(
            f'{path} was not written by python -m genlab.evaluation.features.inception: convert the .pth file again'
        ) from error


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit(f'usage: python -m genlab.evaluation.features.inception {FILE} OUT.npz')
    try:
        convert(*sys.argv[1:])
    except UserError as error:
        sys.exit(f'genlab: {error}')
