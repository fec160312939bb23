"""Tests the Inception network against its published structure, brute force on tiny maps, and torch if installed."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlab.errors import ConfigError, UserError
from genlab.evaluation.features import inception
from genlab.published import torch_file

A = (
    'branch1x1 {0} 64 1x1, branch5x5_1 {0} 48 1x1, branch5x5_2 48 64 5x5, branch3x3dbl_1 {0} 64 1x1, '
    'branch3x3dbl_2 64 96 3x3, branch3x3dbl_3 96 96 3x3, branch_pool {0} {1} 1x1'
)
C = (
    'branch1x1 768 192 1x1, branch7x7_1 768 {0} 1x1, branch7x7_2 {0} {0} 1x7, branch7x7_3 {0} 192 7x1, '
    'branch7x7dbl_1 768 {0} 1x1, branch7x7dbl_2 {0} {0} 7x1, branch7x7dbl_3 {0} {0} 1x7, branch7x7dbl_4 {0} {0} 7x1, '
    'branch7x7dbl_5 {0} 192 1x7, branch_pool 768 192 1x1'
)
E = (
    'branch1x1 {0} 320 1x1, branch3x3_1 {0} 384 1x1, branch3x3_2a 384 384 1x3, branch3x3_2b 384 384 3x1, '
    'branch3x3dbl_1 {0} 448 1x1, branch3x3dbl_2 448 384 3x3, branch3x3dbl_3a 384 384 1x3, branch3x3dbl_3b 384 384 3x1, '
    'branch_pool {0} 192 1x1'
)
PUBLISHED = {  # the file's convolutions: name, channels in and out, height x width
    'Conv2d_1a_3x3': '3 32 3x3',
    'Conv2d_2a_3x3': '32 32 3x3',
    'Conv2d_2b_3x3': '32 64 3x3',
    'Conv2d_3b_1x1': '64 80 1x1',
    'Conv2d_4a_3x3': '80 192 3x3',
    'Mixed_5b': A.format(192, 32),
    'Mixed_5c': A.format(256, 64),
    'Mixed_5d': A.format(288, 64),
    'Mixed_6a': 'branch3x3 288 384 3x3, branch3x3dbl_1 288 64 1x1, branch3x3dbl_2 64 96 3x3, branch3x3dbl_3 96 96 3x3',
    'Mixed_6b': C.format(128),
    'Mixed_6c': C.format(160),
    'Mixed_6d': C.format(160),
    'Mixed_6e': C.format(192),
    'Mixed_7a': 'branch3x3_1 768 192 1x1, branch3x3_2 192 320 3x3, branch7x7x3_1 768 192 1x1, branch7x7x3_2 192 192 1x7, '  # noqa: E501
    'branch7x7x3_3 192 192 7x1, branch7x7x3_4 192 192 3x3',
    'Mixed_7b': E.format(1280),
    'Mixed_7c': E.format(2048),
}
SHAPES = {
    'Mixed_5b': (35, 35, 256),
    'Mixed_5c': (35, 35, 288),
    'Mixed_5d': (35, 35, 288),
    'Mixed_6a': (17, 17, 768),
    'Mixed_6b': (17, 17, 768),
    'Mixed_6c': (17, 17, 768),
    'Mixed_6d': (17, 17, 768),
    'Mixed_6e': (17, 17, 768),
    'Mixed_7a': (8, 8, 1280),
    'Mixed_7b': (8, 8, 2048),
    'Mixed_7c': (8, 8, 2048),
}
BLOCKS = {
    'a': inception.BlockA(32),
    'c': inception.BlockC(8),
    'e': inception.BlockE(),
    'last': inception.BlockE(last=True),
}


def published():
    """Returns {name in the file: shape}."""
    shapes = {'fc.weight': (1008, 2048), 'fc.bias': (1008,)}
    for block, lines in PUBLISHED.items():
        for line in lines.split(', '):
            *name, channels, features, size = line.split()
            unit = '.'.join([block, *name])
            shapes[f'{unit}.conv.weight'] = (int(features), int(channels), *map(int, size.split('x')))
            shapes |= {
                f'{unit}.bn.{part}': (int(features),) for part in ('weight', 'bias', 'running_mean', 'running_var')
            }
    return shapes


@pytest.fixture(scope='module')
def template():
    return inception.template()


def test_every_name_of_the_file_fills_one_array_and_every_array_is_filled(template):
    fed = {}
    for path, leaf in jax.tree.leaves_with_path(template):
        name, shape = inception.name_of(path), leaf.shape
        assert name not in fed
        fed[name] = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
    assert fed == published()


def test_parameters(template):
    """Compares with Keras: 23,817,352 for 1,000 classes, without the 17,216 scales of its normalisations."""
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    params = template['params']
    assert count(params) - count(params['fc']) == 21_785_568
    assert count(params) == 23_850_960 == 23_817_352 + 17_216 + 8 * 2049


def test_shapes_of_the_blocks(template):
    images = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
    wanted = lambda module, _: module.name in {*SHAPES, 'Conv2d_2b_3x3', 'Conv2d_4a_3x3'}
    (features, logits), state = jax.eval_shape(
        lambda variables, x: inception.Inception().apply(variables, x, capture_intermediates=wanted), template, images
    )
    found = {name: value['__call__'][0].shape[1:] for name, value in state['intermediates'].items()}
    assert found == SHAPES | {'Conv2d_2b_3x3': (147, 147, 64), 'Conv2d_4a_3x3': (71, 71, 192)}
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)


def windows(x, pool):
    """Computes `pool` of each 3x3 window of [H, W, C] by brute force, over existing pixels only."""
    rows, columns = x.shape[:2]
    return np.array(
        [
            [
                pool(x[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].reshape(-1, x.shape[-1]), axis=0)
                for j in range(columns)
            ]
            for i in range(rows)
        ]
    )


@pytest.mark.parametrize('name', BLOCKS)
def test_pooling_of_each_block(name):
    """Sets all weights to zero except those that pass the pooled channels."""
    x = np.random.RandomState(0).normal(size=(1, 4, 3, 8)).astype(np.float32)
    block = BLOCKS[name]
    variables = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32), jax.eval_shape(block.init, jax.random.key(0), x)
    )
    width = variables['params']['branch_pool']['bn']['scale'].size
    variables['params']['branch_pool'] = {
        'conv': {'kernel': np.eye(8, width, dtype=np.float32)[None, None]},
        'bn': {'scale': np.ones(width, np.float32), 'bias': np.zeros(width, np.float32)},
    }
    variables['batch_stats']['branch_pool']['bn']['var'] = np.ones(width, np.float32)
    found = np.asarray(jax.jit(block.apply)(variables, x))[0]
    expected = np.maximum(windows(x[0], np.max if name == 'last' else np.mean), 0) / np.sqrt(1.001)
    np.testing.assert_allclose(found[..., -width:][..., :8], expected, rtol=1e-5, atol=1e-6)
    assert not found[..., :-width].any()


def test_pooling_of_stride_two_has_no_padding():
    x = np.random.RandomState(0).normal(size=(1, 7, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(inception.halved(x)[0], windows(x[0], np.max)[1:6:2, 1:4:2])


def test_resize_is_bilinear_between_pixel_centres_without_antialiasing():
    """Enlarges 5 rows, reduces 700 columns and repeats grey."""
    levels = np.random.RandomState(0).randint(0, 256, (1, 5, 700, 1))
    images = np.float32(levels / 127.5 - 1)
    found = np.asarray(jax.jit(inception.resized)(images + np.float32(0.001)))  # removed by the rounding
    row, column = [np.clip((np.arange(299) + 0.5) * size / 299 - 0.5, 0, size - 1) for size in (5, 700)]
    (top, left), (down, right) = [np.floor(at).astype(int) for at in (row, column)], [at % 1 for at in (row, column)]
    below, beside = np.minimum(top + 1, 4), np.minimum(left + 1, 699)
    values = images[0, :, :, 0].astype(np.float64)
    above = values[top][:, left] * (1 - right) + values[top][:, beside] * right
    under = values[below][:, left] * (1 - right) + values[below][:, beside] * right
    expected = above * (1 - down[:, None]) + under * down[:, None]
    assert found.shape == (1, 299, 299, 3)
    for channel in range(3):
        np.testing.assert_allclose(found[0, :, :, channel], expected, atol=1e-4)
    np.testing.assert_allclose(inception.resized(np.full((1, 2, 2, 3), 1.7)).max(), 1, rtol=1e-6)


def test_probabilities_leave_out_the_bias():
    features, kernel = np.float32([[1, 2]]), np.float32([[0, 1, 0], [0, 0, 1]])
    variables = {'params': {'fc': {'kernel': kernel, 'bias': np.float32([9, 0, 0])}}}
    expected = np.exp([[0, 1, 2]]) / np.exp([0, 1, 2]).sum()
    np.testing.assert_allclose(inception.probabilities(variables, features), expected, rtol=1e-6)


def test_arrays_are_transposed_and_a_missing_one_is_named(template, monkeypatch):
    monkeypatch.setattr(inception, 'template', lambda: template)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in published().items()}
    drawn = np.random.RandomState(0).normal(size=(128, 128, 1, 7)).astype(np.float32)
    arrays['Mixed_6b.branch7x7_2.conv.weight'] = drawn
    arrays['fc.weight'][5, 7], arrays['Mixed_7c.branch_pool.bn.running_var'][3] = 2, 4
    found = inception.from_arrays(arrays | {'Conv2d_1a_3x3.bn.num_batches_tracked': np.int64(0)}, 'file')
    kernel = found['params']['Mixed_6b']['branch7x7_2']['conv']['kernel']
    assert kernel.shape == (1, 7, 128, 128) and kernel[0, 2, 3, 4] == drawn[4, 3, 0, 2]
    assert (
        found['params']['fc']['kernel'][7, 5] == 2
        and found['batch_stats']['Mixed_7c']['branch_pool']['bn']['var'][3] == 4
    )
    arrays['fc.bias'] = np.zeros(1000)
    with pytest.raises(ConfigError, match='file is not .*: fc.bias is missing or has another shape'):
        inception.from_arrays(arrays, 'file')


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Returns a network of one layer as (path, arrays, checksum); a stub reads its file."""
    shapes = {'kernel': jax.ShapeDtypeStruct((2, 3), jnp.float32), 'bias': jax.ShapeDtypeStruct((3,), jnp.float32)}
    monkeypatch.setattr(inception, 'template', lambda: {'params': {'fc': shapes}})
    arrays = {'fc.weight': np.arange(6, dtype=np.float32).reshape(3, 2), 'fc.bias': np.ones(3, np.float32)}
    monkeypatch.setattr(torch_file, 'read', lambda path: arrays)
    checksum = hashlib.sha256(b'any').hexdigest()[:8]
    path = tmp_path / f'pt_inception-{checksum}.pth'
    path.write_bytes(b'any')
    return path, arrays, checksum


def test_the_npz_has_the_contents_of_the_file(tiny, tmp_path):
    path, arrays, checksum = tiny
    inception.convert(path, tmp_path / 'out.npz')
    (variables, found), (again, kept) = inception.load(path), inception.load(str(tmp_path / 'out.npz'))
    assert found == kept == checksum
    np.testing.assert_array_equal(variables['params']['fc']['kernel'], arrays['fc.weight'].T)
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, again))
    with pytest.raises(UserError, match='end in .npz'):
        inception.convert(path, tmp_path / 'out.pth')


def test_unsuitable_files_are_refused_in_one_line(tiny, tmp_path):
    path, arrays, _ = tiny
    path.rename(tmp_path / inception.FILE)
    np.savez(tmp_path / 'other.npz', **arrays)
    (tmp_path / 'broken.npz').write_bytes(b'PK')
    for name, message in (
        ('none.pth', f'there is no such file; give the path of {inception.FILE}'),
        ('', 'no such file'),
        (inception.FILE, 'not with 6726825d'),
        ('other.npz', 'convert the .pth file again'),
        ('broken.npz', 'convert the .pth file again'),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            inception.load(name and tmp_path / name)
        assert '\n' not in str(error.value)


def test_a_block_against_torch():
    torch = pytest.importorskip('torch')
    from torch.nn import functional as F

    draw = np.random.RandomState(0)
    x, block = draw.normal(size=(2, 5, 6, 16)).astype(np.float32), inception.BlockA(32)
    arrays = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.float32(draw.uniform(0.1 if path[-1].key == 'var' else -1, 1, leaf.shape)),
        jax.eval_shape(block.init, jax.random.key(0), x),
    )

    def unit(image, name):
        params, stats = arrays['params'][name], arrays['batch_stats'][name]['bn']
        kernel = torch.tensor(params['conv']['kernel']).permute(3, 2, 0, 1)
        image = F.conv2d(image, kernel, padding=kernel.shape[-1] // 2)
        four = [
            torch.tensor(part) for part in (stats['mean'], stats['var'], params['bn']['scale'], params['bn']['bias'])
        ]
        return F.relu(F.batch_norm(image, *four, eps=1e-3))

    image = torch.tensor(x).permute(0, 3, 1, 2)
    triple = unit(unit(unit(image, 'branch3x3dbl_1'), 'branch3x3dbl_2'), 'branch3x3dbl_3')
    pooled = F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    joined = (
        torch.cat(
            [
                unit(image, 'branch1x1'),
                unit(unit(image, 'branch5x5_1'), 'branch5x5_2'),
                triple,
                unit(pooled, 'branch_pool'),
            ],
            1,
        )
        .permute(0, 2, 3, 1)
        .numpy()
    )
    np.testing.assert_allclose(jax.jit(block.apply)(arrays, x), joined, rtol=1e-4, atol=1e-4 * abs(joined).max())


def test_the_resize_against_torch():
    torch = pytest.importorskip('torch')
    levels = np.random.RandomState(0).randint(0, 256, (2, 32, 400, 3)).astype(np.float32)
    image = torch.tensor(levels / 255).permute(0, 3, 1, 2)
    port = 2 * torch.nn.functional.interpolate(image, (299, 299), mode='bilinear', align_corners=False) - 1
    np.testing.assert_allclose(
        jax.jit(inception.resized)(levels / 127.5 - 1), port.permute(0, 2, 3, 1).numpy(), atol=1e-4
    )
