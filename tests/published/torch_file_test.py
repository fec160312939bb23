"""Tests torch files made by hand and by torch: arrays survive the round trip, and no code in a file is executed."""

import pickle
import struct
import sys
import types
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


def storage_file():
    """Returns a storage that was saved as a file of its own, in the format without an archive."""
    head = [pickle.dumps(part, 2) for part in (torch_file.MAGIC, torch_file.PROTOCOL, {'little_endian': True})]
    storage = b'(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI8\nNtQ.'
    return b''.join([*head, storage, pickle.dumps(['0'], 2), struct.pack('<q', 8), VALUES.tobytes()])


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


@pytest.mark.parametrize('form', [zipped, plain])
def test_nested_dicts_and_plain_values(tmp_path, form):
    extra = 'N' if form is plain else ''
    wrapped = f'(dVema\n{state_dict(tensor(extra=extra)).decode()[:-1]}sVargs\nHEREs.'
    arguments = b'cargparse\nNamespace\n)\x81(dVrate\nF0.5\nsVsizes\n(lI3\nasb'
    path = form(tmp_path / 'file.pt', wrapped.encode().replace(b'HERE', arguments))
    found = torch_file.read_tree(path)
    assert found['args'] == {'rate': 0.5, 'sizes': [3]}
    np.testing.assert_array_equal(found['ema']['name0'], [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(UserError, match='no state dict'):
        torch_file.read(path)


def test_bfloat16_is_widened(tmp_path):
    halves = (np.array([1.5, -2.0, 3e38, 0.0], '<f4').view('<u4') >> 16).astype('<u2')
    pickled = state_dict(tensor(0, 'I4\n', 'I1\n')).replace(b'FloatStorage', b'BFloat16Storage').replace(b'I8', b'I4')
    with zipfile.ZipFile(tmp_path / 'file.pt', 'w') as archive:
        archive.writestr('any/data.pkl', pickled)
        archive.writestr('any/data/0', halves.tobytes())
    (found,) = torch_file.read(tmp_path / 'file.pt').values()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1.5, -2.0, 3e38, 0.0], rtol=0.01)


def stub(monkeypatch, module, name):
    """Makes a function that pickles by this name. It must not be called."""

    def function(*arguments):
        raise AssertionError('executed')

    function.__module__, function.__name__, function.__qualname__ = module, name, name
    for part in {module, module.partition('.')[0]}:
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    setattr(sys.modules[module], name, function)
    return function


class Reduced:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('protocol', [2, 4])
def test_modules_of_a_persistent_class_give_their_state_and_run_no_source(tmp_path, monkeypatch, protocol):
    persistent = stub(monkeypatch, 'torch_utils.persistence', '_reconstruct_persistent_obj')
    rebuild = stub(monkeypatch, 'torch._utils', '_rebuild_tensor_v2')
    load = stub(monkeypatch, 'torch.storage', '_load_from_bytes')
    monkeypatch.setitem(sys.modules, 'torch._utils', types.ModuleType('torch._utils'))
    sys.modules['torch._utils']._rebuild_tensor_v2 = rebuild

    def tensor_of(offset):
        return Reduced(rebuild, Reduced(load, storage_file()), offset, (2,), (1,), False, {})

    def module(**state):
        source = f"open({str(tmp_path / 'touched')!r}, 'w')"
        return Reduced(persistent, {'type': 'class', 'module_src': source, 'class_name': 'Net', 'state': state})

    inner = module(
        _parameters={'weight': tensor_of(3), 'bias': None},
        _buffers={'kept': tensor_of(0), 'lost': tensor_of(1)},
        _non_persistent_buffers_set={'lost'},
        _init_args=(1,),
    )
    outer = module(_modules={'layer': inner, 'none': None}, _init_kwargs={'width': 3}, _init_args=())
    path = tmp_path / 'network.pkl'
    path.write_bytes(pickle.dumps({'ema': outer, 'training_set_kwargs': {'path': 'x'}, 'loss': inner}, protocol))
    found = torch_file.read_modules(path)
    assert found['training_set_kwargs'] == {'path': 'x'}
    assert found['ema']['init'] == {'width': 3} and found['loss']['init'] == {'*': [1]}
    assert {*found['ema']['state']} == {'layer.weight', 'layer.kept'} and not (tmp_path / 'touched').exists()
    np.testing.assert_array_equal(found['ema']['state']['layer.weight'], [3, 4])
    other = stub(monkeypatch, 'training.networks', 'Network')
    path.write_bytes(pickle.dumps({'ema': Reduced(other)}, protocol))
    with pytest.raises(UserError, match=r'training.networks.Network.*nothing was executed'):
        torch_file.read_modules(path)


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
