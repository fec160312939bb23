"""Tests torch files made by hand and by torch: arrays survive the round trip, and no code in a file is executed."""

import pickle
import struct
import zipfile

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.published import torch_file

VALUES = np.arange(8, dtype='<f4')


def tensor(offset=1, shape='I2\nI3\n', strides='I3\nI1\n', rebuild='torch._utils\n_rebuild_tensor_v2', extra=''):
    """Pickles a tensor as torch does, in the readable protocol; the default is 1 to 6 as two rows of three."""
    storage = f'(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI8\n{extra}tQ'
    return f'c{rebuild}\n({storage}I{offset}\n({shape}t({strides}tI00\nccollections\nOrderedDict\n(tRtR'


def state_dict(*tensors):
    items = ''.join(f'Vname{number}\n{one}s' for number, one in enumerate(tensors))
    return f'ccollections\nOrderedDict\n(tR{items}.'.encode()


def zipped(path, pickled):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('any/data.pkl', pickled)
        archive.writestr('any/byteorder', 'little')
        archive.writestr('any/data/0', VALUES.tobytes())
    return path


def plain(path, pickled):
    head = [pickle.dumps(part, 2) for part in (torch_file.MAGIC, torch_file.PROTOCOL, {'little_endian': True})]
    path.write_bytes(b''.join([*head, pickled, pickle.dumps(['0'], 2), struct.pack('<q', 8), VALUES.tobytes()]))
    return path


@pytest.mark.parametrize('form', [zipped, plain])
def test_files_by_hand(tmp_path, form):
    extra = 'N' if form is plain else ''
    turned = tensor(0, 'I3\nI2\n', 'I1\nI3\n', extra=extra)
    found = torch_file.read(form(tmp_path / 'file.pth', state_dict(tensor(extra=extra), turned, tensor(7, '', ''))))
    assert list(found) == ['name0', 'name1', 'name2']
    np.testing.assert_array_equal(found['name0'], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(found['name1'], [[0, 3], [1, 4], [2, 5]])
    assert found['name2'].shape == () and found['name2'] == 7 and found['name0'].dtype == np.float32


@pytest.mark.parametrize('form', [zipped, plain])
@pytest.mark.parametrize(
    'harmful',
    [
        'cos\nsystem\n(Vtouch HERE\ntR.',
        'cbuiltins\neval\n(V1/0\ntR.',
        'cbuiltins\ngetattr\n.',
        'ctorch.storage\n_load_from_bytes\n.',
        'ctorch\nload\n.',
        'ccollections\nCounter\n(tR.',
    ],
)
def test_nothing_but_tensors_is_called(tmp_path, form, harmful):
    touched = tmp_path / 'touched'
    path = form(tmp_path / 'file.pth', harmful.replace('HERE', str(touched)).encode())
    with pytest.raises(UserError, match='nothing was executed') as error:
        torch_file.read(path)
    assert '\n' not in str(error.value) and not touched.exists()


@pytest.mark.parametrize(
    'pickled, message',
    [
        (state_dict(tensor(3)), 'beyond'),
        (state_dict(tensor(-1)), 'beyond'),
        (state_dict(tensor(strides='I-3\nI1\n')), 'beyond'),
        (state_dict(tensor(strides='I8\nI1\n')), 'beyond'),
        (b'I3\n.', 'no state dict'),
        (b'(dVa\nI3\ns.', 'no state dict'),
        (b'', 'EOFError'),
        (b'\x80', 'is damaged'),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, pickled, message):
    with pytest.raises(UserError, match=message) as error:
        torch_file.read(zipped(tmp_path / 'file.pth', pickled))
    assert '\n' not in str(error.value)
    with pytest.raises(UserError):
        torch_file.read(plain(tmp_path / 'file.pth', pickled))


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / 'file.pth'
    for content in (b'', b'hello', b'PK', pickle.dumps({'a': 1})):
        path.write_bytes(content)
        with pytest.raises(UserError, match='file.pth'):
            torch_file.read(path)
    with pytest.raises(UserError, match='cannot be read: No such file'):
        torch_file.read(tmp_path / 'none.pth')
    whole = plain(path, state_dict(tensor(extra='N'))).read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(UserError):
        torch_file.read(path)


@pytest.mark.parametrize('in_zip', [True, False])
def test_files_by_torch(tmp_path, in_zip):
    torch = pytest.importorskip('torch')
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 2), torch.nn.BatchNorm2d(5), torch.nn.Linear(4, 2))
    states = network.state_dict()
    whole = torch.arange(60, dtype=torch.float64).reshape(3, 4, 5)
    states['view'], states['turned'], states['empty'] = whole[1:, ::2], whole.permute(2, 0, 1), torch.zeros(0, 3)
    states['half'], states['flags'] = torch.ones(2).half(), torch.tensor([True, False])
    states['parameter'] = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float32))
    torch.save(states, tmp_path / 'file.pth', _use_new_zipfile_serialization=in_zip)
    found = torch_file.read(tmp_path / 'file.pth')
    assert list(found) == list(states)
    for name, expected in states.items():
        np.testing.assert_array_equal(found[name], expected.detach().numpy())
        assert found[name].dtype == expected.detach().numpy().dtype
