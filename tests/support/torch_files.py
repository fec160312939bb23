"""Writes files as torch does, without torch: nested dicts of arrays and plain values, in both formats."""

import argparse
import pickle
import struct
import zipfile

import numpy as np

from genlab.published import torch_file

# dtype -> torch's name
KINDS = {'float64': 'Double', 'float32': 'Float', 'float16': 'Half', 'bfloat16': 'BFloat16', 'int64': 'Long'}
OPCODES = {str: 'V', int: 'I', float: 'F'}


def write(path, tree, form='zip'):
    """Writes a tree of dicts, lists, argparse.Namespace, numbers, texts and arrays; form: 'zip' or 'legacy'."""
    storages = []
    content = f'{_pickled(tree, storages, form)}.'.encode('latin1')  # one byte per character
    if form == 'zip':
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('any/data.pkl', content)
            for key, array in enumerate(storages):
                archive.writestr(f'any/data/{key}', array.tobytes())
        return path
    head = [pickle.dumps(part, 2) for part in (torch_file.MAGIC, torch_file.PROTOCOL, {'little_endian': True})]
    keys = pickle.dumps([str(key) for key in range(len(storages))], 2)
    rest = [struct.pack('<q', array.size) + array.tobytes() for array in storages]
    path.write_bytes(b''.join([*head, content, keys, *rest]))
    return path


def _pickled(value, storages, form):
    """Returns a value in the readable protocol of pickle, and appends its arrays to `storages`."""
    inner = lambda part: _pickled(part, storages, form)
    if isinstance(value, np.ndarray):
        storages.append(value)
        view = 'N' if form == 'legacy' else ''
        kind, key = KINDS[value.dtype.name], len(storages) - 1
        storage = f'(Vstorage\nctorch\n{kind}Storage\nV{key}\nVcpu\nI{value.size}\n{view}tQ'
        strides = [stride // value.itemsize for stride in np.ascontiguousarray(value).strides]
        shape, strides = (''.join(f'I{number}\n' for number in numbers) for numbers in (value.shape, strides))
        view = f'({storage}I0\n({shape}t({strides}tI00\nccollections\nOrderedDict\n(tRtR'
        return f'ctorch._utils\n_rebuild_tensor_v2\n{view}'
    if isinstance(value, argparse.Namespace):
        return f'cargparse\nNamespace\n)\x81{inner(vars(value))}b'
    if isinstance(value, dict):
        return '(d' + ''.join(f'V{name}\n{inner(part)}s' for name, part in value.items())
    if isinstance(value, list):
        return '(l' + ''.join(f'{inner(part)}a' for part in value)
    if isinstance(value, bool):
        return f'I{value:02d}\n'
    return 'N' if value is None else f'{OPCODES[type(value)]}{value}\n'
