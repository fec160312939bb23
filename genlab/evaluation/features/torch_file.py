"""Reads the arrays of a state dict that `torch.save` wrote, without torch and without executing anything in the file.

A torch file is a pickle that names its arrays, plus the arrays. Since torch 1.6 both are in a zip archive; before, the
arrays follow the pickle. A pickle can call any function by name. Here it can only call those in `ALLOWED`, which return
plain records, so a file can only name arrays.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np

from genlab.errors import UserError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first two pickles of the format without a zip archive
TYPES = {
    'Double': '<f8',
    'Float': '<f4',
    'Half': '<f2',
    'Long': '<i8',
    'Int': '<i4',
    'Short': '<i2',
    'Char': 'i1',
    'Byte': 'u1',
    'Bool': '?',
}


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


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the arrays {name: array} of a state dict, in both formats.

    Raises a UserError if the file contains anything else or is damaged.
    """
    path = Path(path)
    try:
        with path.open('rb') as file:
            tensors, storages = (_read_zip if file.peek(2)[:2] == b'PK' else _read_plain)(file)
        if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise UserError('it holds no state dict, a dict of tensors only')
        return {str(name): _array(tensor, storages) for name, tensor in tensors.items()}
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or error}') from error
    except UserError as error:
        raise UserError(f'{path} cannot be read as a torch file: {error}') from error
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f'{path} is no torch file or is damaged ({type(error).__name__}: {error})') from error


def _read_zip(file: BinaryIO) -> tuple[dict, dict[str, bytes]]:
    """Reads <name>/data.pkl, and the bytes of storage k from <name>/data/k."""
    with zipfile.ZipFile(file) as archive:
        names = {name.partition('/')[2]: name for name in archive.namelist()}
        if 'byteorder' in names and archive.read(names['byteorder']) != b'little':
            raise UserError('its bytes are in big-endian order')
        with archive.open(names['data.pkl']) as pickled:
            unpickler = _Unpickler(pickled)
            tensors = unpickler.load()
        return tensors, {key: archive.read(names[f'data/{key}']) for key in unpickler.storages}


def _read_plain(file: BinaryIO) -> tuple[dict, dict[str, bytes]]:
    """Reads the format without an archive.

    It has pickles of the magic number, the protocol, the machine, the tensors and the keys, and then the length and
    bytes for each key.
    """
    if _Unpickler(file).load() != MAGIC or _Unpickler(file).load() != PROTOCOL:
        raise UserError('it has the wrong magic number')
    if not _Unpickler(file).load()['little_endian']:
        raise UserError('its bytes are in big-endian order')
    unpickler = _Unpickler(file)
    tensors, contents = unpickler.load(), {}
    for key in _Unpickler(file).load():
        length = int.from_bytes(file.read(8), 'little')
        contents[key] = file.read(length * np.dtype(TYPES[unpickler.storages[key].kind]).itemsize)
    return tensors, contents


class _Unpickler(pickle.Unpickler):
    """Resolves only the names in `ALLOWED` and storage types, and records the storages it meets."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding='utf-8')
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Returns the function or storage type with a name; raises UserError for any other name."""
        kind = name.removesuffix('Storage')
        if module == 'torch' and kind != name and kind in TYPES:
            return kind
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise UserError(f'it calls {module}.{name}, which is not part of a state dict; nothing was executed')

    def persistent_load(self, saved: tuple) -> Storage:
        """Records a storage that the pickle refers to."""
        what, kind, key, _, length, *view = saved  # the device is irrelevant; torch 0.4 removed views
        if what != 'storage' or kind not in TYPES or any(view):
            raise UserError(f'it has an entry of an unknown kind, {what!r}')
        return self.storages.setdefault(key, Storage(key, kind, length))


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Tensor:
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor


ALLOWED = {
    ('collections', 'OrderedDict'): OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch._utils', '_rebuild_parameter'): _parameter,
}


def _array(tensor: Tensor, contents: dict[str, bytes]) -> np.ndarray:
    """Copies the values of a tensor, which must lie within its storage."""
    values = np.frombuffer(contents[tensor.storage.key], TYPES[tensor.storage.kind])
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or 0 not in tensor.shape and last >= len(values):
        raise UserError('a tensor reaches beyond its values: the file is damaged')
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides).copy()
