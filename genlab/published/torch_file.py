"""Reads the arrays and plain values of PyTorch files, without torch and without executing anything in the file.

A torch file is a pickle that names its arrays, plus the arrays. Since torch 1.6 both are in a zip archive; before, the
arrays follow the pickle. A pickle can call any function by name. Here it can only call those in `ALLOWED`, which return
plain records, so a file can only name arrays and plain values.

NVlabs' network pickles (StyleGAN2-ADA, EDM) hold whole modules with the source text of their classes. `read_modules`
takes the state and the constructor's arguments of each module. The source text is dropped, never compiled.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np

from genlab.errors import UserError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first two pickles of the format without a zip archive
TYPES = {
    'Double': '<f8',
    'Float': '<f4',
    'Half': '<f2',
    'BFloat16': '<u2',  # the upper half of a float32
    'Long': '<i8',
    'Int': '<i4',
    'Short': '<i2',
    'Char': 'i1',
    'Byte': 'u1',
    'Bool': '?',
}
DTYPES = ('float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool')
PLAIN = (str, bytes, bool, int, float, complex, type(None))


class Storage(NamedTuple):
    """The array behind a tensor: its key in the file, the name of its dtype ('Float'), and its number of values."""

    key: str
    kind: str
    length: int


class Tensor(NamedTuple):
    """A view of a storage; offset, shape and strides are in values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Values(dict):
    """The attributes of an object that holds plain values, such as argparse.Namespace, by name."""

    def __setstate__(self, state: Mapping) -> None:
        self.update(state)


class Module(Values):
    """The attributes of a torch module."""


class DType:
    """The type of numpy values. Only numbers are accepted."""

    def __init__(self, name: str, *_: Any):
        self.dtype = np.dtype(str(name))
        if self.dtype.kind not in 'fiub':
            raise UserError(f'it has numpy values of type {name!r}, which are no numbers')

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1] if state[1] in '<>' else '=')


class Array:
    """A numpy array in a pickle, which arrives as its shape, type and bytes."""

    def __init__(self, *_: Any):
        self.values = np.zeros(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, content = state
        self.values = np.frombuffer(_bytes(content), kind.dtype).reshape(shape, order='F' if fortran else 'C')


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the arrays {name: array} of a state dict, in both formats.

    Raises a UserError if the file contains anything else or is damaged.
    """
    tree = read_tree(path)
    if not isinstance(tree, dict) or not all(isinstance(value, np.ndarray) for value in tree.values()):
        raise UserError(f'{path} cannot be read as a torch file: it holds no state dict, a dict of tensors only')
    return {str(name): array for name, array in tree.items()}


def read_tree(path: str | Path) -> Any:
    """Reads nested dicts and lists of arrays and plain values, in both formats.

    An argparse.Namespace becomes a dict. Values of bfloat16 become float32.

    Raises a UserError if the file contains anything else or is damaged.
    """
    return _read(path, lambda file: _read_zip(file) if file.peek(2)[:2] == b'PK' else _read_legacy(file))


def read_modules(path: str | Path) -> Any:
    """Reads a pickle of NVlabs: nested dicts and lists of arrays and plain values.

    A module becomes {'init': the keyword arguments of its constructor, 'state': {dotted name: array}}. Buffers that
    torch would not save are left out.

    Raises a UserError if the file contains anything else or is damaged.
    """

    def load(file: BinaryIO) -> Any:
        unpickler = _Modules(file)
        return unpickler.load(), unpickler.contents

    return _read(path, load)


def _read(path: str | Path, load: Any) -> Any:
    """Returns what `load` finds in a file, with arrays in place of tensors; turns every fault into one line."""
    try:
        with Path(path).open('rb') as file:
            return _plain(*load(file))
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or error}') from error
    except UserError as error:
        raise UserError(f'{path} cannot be read as a torch file: {error}') from error
    except Exception as error:  # a damaged pickle can raise anything
        text = ' '.join(str(error).split())
        raise UserError(f'{path} is not a torch file, or is damaged ({type(error).__name__}: {text})') from error


def _read_zip(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    """Reads <name>/data.pkl, and the bytes of storage k from <name>/data/k."""
    with zipfile.ZipFile(file) as archive:
        names = {name.partition('/')[2]: name for name in archive.namelist()}
        if 'byteorder' in names and archive.read(names['byteorder']) != b'little':
            raise UserError('its bytes are in big-endian order')
        with archive.open(names['data.pkl']) as pickled:
            unpickler = _Unpickler(pickled)
            tree = unpickler.load()
        return tree, {key: archive.read(names[f'data/{key}']) for key in unpickler.storages}


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    """Reads the format without an archive.

    It has pickles of the magic number, the protocol, the machine, the values and the keys, and then the length and
    bytes for each key.
    """
    if _Unpickler(file).load() != MAGIC or _Unpickler(file).load() != PROTOCOL:
        raise UserError('it has the wrong magic number')
    if not _Unpickler(file).load()['little_endian']:
        raise UserError('its bytes are in big-endian order')
    unpickler = _Unpickler(file)
    tree, contents = unpickler.load(), {}
    for key in _Unpickler(file).load():
        length = int.from_bytes(file.read(8), 'little')
        contents[key] = file.read(length * np.dtype(TYPES[unpickler.storages[key].kind]).itemsize)
    return tree, contents


class _Unpickler(pickle.Unpickler):
    """Resolves only the names in `ALLOWED`, storage types and dtypes, and records the storages it meets."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding='utf-8')
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Returns the function, class or type with a name; raises UserError for any other name."""
        kind = name.removesuffix('Storage')
        if module == 'torch' and kind != name and kind in TYPES:
            return kind
        if module == 'torch' and name in DTYPES:
            return name
        if module.startswith('pytorch_lightning.callbacks.'):  # a key of their states, which nothing can call
            return f'{module}.{name}'
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise UserError(f'it calls {module}.{name}, which is neither a tensor nor a plain value; nothing was executed')

    def persistent_load(self, saved: tuple) -> Storage:
        """Records a storage that the pickle refers to."""
        what, kind, key, _, length, *view = saved  # the device is irrelevant; torch 0.4 removed views
        if what != 'storage' or kind not in TYPES or any(view):
            raise UserError(f'it has an entry of an unknown kind, {what!r}')
        return self.storages.setdefault(key, Storage(key, kind, length))


class _Modules(_Unpickler):
    """Resolves the modules of NVlabs' pickles too. Their storages lie in the pickle, each as a file of its own."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self.contents: dict[str, bytes] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Returns what `_Unpickler` does, and the names in `MODULES`."""
        if (module, name) == ('torch.storage', '_load_from_bytes'):
            return self.storage
        return MODULES[module, name] if (module, name) in MODULES else super().find_class(module, name)

    def storage(self, content: bytes) -> Storage:
        """Reads a storage that was saved as a file of its own, of the format without an archive."""
        found, contents = _read_legacy(io.BufferedReader(io.BytesIO(_bytes(content))))  # type: ignore[arg-type]
        if not isinstance(found, Storage):
            raise UserError('it has a storage that holds something else')
        key = str(len(self.contents))
        self.contents[key] = contents[found.key]
        return found._replace(key=key)


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Tensor:
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor


def _persistent(meta: Mapping) -> Module:
    """Returns the attributes of an object of a persistent class; its source text is dropped."""
    if meta.get('type') != 'class' or not isinstance(meta.get('state'), dict):
        raise UserError('it has a persistent object of an unknown kind')
    return Module(meta['state'])


def _number(kind: DType, content: Any) -> Any:
    """Returns a numpy scalar as a plain number."""
    return np.frombuffer(_bytes(content), kind.dtype)[0].item()


def _bytes(content: Any) -> bytes:
    """Returns bytes that a pickle of protocol 2 holds as text."""
    return content.encode('latin1') if isinstance(content, str) else bytes(content)


def _encode(text: str, *_: Any) -> bytes:
    return text.encode('latin1')


def _size(values: Any = ()) -> tuple:
    return tuple(values)


def _device(*names: Any) -> str:
    return ':'.join(map(str, names))


ALLOWED: dict[tuple[str, str], Any] = {
    ('collections', 'OrderedDict'): OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch._utils', '_rebuild_parameter'): _parameter,
    ('torch', 'Size'): _size,
    ('torch', 'device'): _device,
    ('argparse', 'Namespace'): Values,
    ('_codecs', 'encode'): _encode,
    ('numpy', 'dtype'): DType,
    ('numpy', 'ndarray'): Array,
    **{(f'numpy.{core}.multiarray', 'scalar'): _number for core in ('core', '_core')},
    **{(f'numpy.{core}.multiarray', '_reconstruct'): Array for core in ('core', '_core')},
}
MODULES: dict[tuple[str, str], Any] = {
    ('torch_utils.persistence', '_reconstruct_persistent_obj'): _persistent,
    ('dnnlib.util', 'EasyDict'): Values,
    **{('torch.nn.modules.container', name): Module for name in ('ModuleDict', 'ModuleList', 'Sequential')},
    **{(module, 'set'): set for module in ('builtins', '__builtin__')},
}


def _plain(value: Any, contents: dict[str, bytes]) -> Any:
    """Returns a value with arrays in place of tensors, and dicts in place of modules."""
    if isinstance(value, Tensor):
        return _array(value, contents)
    if isinstance(value, Array):
        return value.values
    if isinstance(value, Module):
        init = dict(value.get('_init_kwargs') or {})
        if value.get('_init_args'):
            init['*'] = value['_init_args']  # without names: a record refuses them by this one
        return {'init': _plain(init, contents), 'state': _plain(_state(value), contents)}
    if isinstance(value, dict):
        return {str(name): _plain(entry, contents) for name, entry in value.items()}
    if isinstance(value, (list, tuple, set)) and not isinstance(value, Storage):
        return [_plain(entry, contents) for entry in value]
    if isinstance(value, PLAIN):
        return value
    raise UserError(f'it holds a value of an unknown kind, {type(value).__name__}')


def _state(module: Module) -> dict[str, Any]:
    """Returns the state dict of a module: parameters and saved buffers of it and of its submodules."""
    hidden = module.get('_non_persistent_buffers_set') or ()
    found = dict(module.get('_parameters') or {})
    found |= {name: buffer for name, buffer in (module.get('_buffers') or {}).items() if name not in hidden}
    found = {name: entry for name, entry in found.items() if entry is not None}
    for name, inner in (module.get('_modules') or {}).items():
        if inner is not None:
            found |= {f'{name}.{path}': entry for path, entry in _state(inner).items()}
    return found


def _array(tensor: Tensor, contents: dict[str, bytes]) -> np.ndarray:
    """Copies the values of a tensor, which must lie within its storage."""
    kind = tensor.storage.kind
    values = np.frombuffer(contents[tensor.storage.key], TYPES[kind])
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or 0 not in tensor.shape and last >= len(values):
        raise UserError('a tensor reaches beyond its values: the file is damaged')
    strides = [stride * values.itemsize for stride in tensor.strides]
    found = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides).copy()
    return (found.astype('<u4') << 16).view('<f4') if kind == 'BFloat16' else found
