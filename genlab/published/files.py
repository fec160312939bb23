"""The formats of weight files: each reader returns nested plain values with arrays as leaves; none executes anything.

safetensors needs the library of that name, and a configuration in YAML needs PyYAML (the extra "published").
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax
import numpy as np

from genlab.errors import ConfigError, UserError
from genlab.published import torch_file
from genlab.run.files import write_atomically

Tree = Any  # nested dicts and lists of arrays and plain values


def read(form: str, path: Path) -> Tree:
    """Reads a file of the format `form`, an entry of `READERS`.

    Raises ConfigError, in one line that names the file, if it cannot be read or is of another format.
    """
    try:
        return READERS[form](path)
    except ConfigError:
        raise
    except UserError as error:
        raise ConfigError(f'--from={form}: {error}') from error
    except OSError as error:
        raise ConfigError(f'--from={form}: {path} cannot be read: {error.strerror or error}') from error
    except Exception as error:  # each library has errors of its own for a damaged file
        text = ' '.join(str(error).split())[:200]
        raise ConfigError(f'--from={form}: {path} is not such a file, or is damaged ({text})') from error


def write(form: str, path: Path, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> None:
    """Writes arrays in the format `form`, an entry of `WRITERS`, and <path>.json next to it.

    Args:
      form: name of the format.
      path: of the file.
      arrays: name -> array.
      notes: plain JSON values, which the JSON has besides the shape and dtype of each array.
    """
    shapes = {name: {'shape': list(array.shape), 'dtype': array.dtype.name} for name, array in arrays.items()}
    try:
        WRITERS[form](path, {name: np.asarray(array, order='C') for name, array in arrays.items()})
        write_atomically(
            path.with_suffix('.json'), (json.dumps({**notes, 'tensors': shapes}, indent=2) + '\n').encode()
        )
    except OSError as error:
        raise ConfigError(f'--to={form}: {path} cannot be written ({error.strerror or error})') from error


def flat(tree: Tree, prefix: str = '') -> dict[str, np.ndarray]:
    """Returns the arrays of nested dicts, and no other value: {names joined by dots: array}."""
    if isinstance(tree, np.ndarray):
        return {prefix.removesuffix('.'): tree}
    found: dict[str, np.ndarray] = {}
    for name, entry in tree.items() if isinstance(tree, Mapping) else ():
        found |= flat(entry, f'{prefix}{name}.')
    return found


def configuration(path: Path) -> Mapping[str, Any]:
    """Reads a configuration of a peer, JSON or YAML, whose names end in .yaml or .yml. Tags of YAML are refused."""
    where, form = f'--configuration={path}', 'YAML' if path.suffix in ('.yaml', '.yml') else 'JSON'
    try:
        found = yaml().safe_load(path.read_text()) if form == 'YAML' else json.loads(path.read_text())
    except ConfigError:
        raise
    except Exception as error:  # PyYAML has errors of its own
        text = ' '.join(str(error).split())[:200]
        raise ConfigError(f'{where} cannot be read as {form}: {text}') from None
    if not isinstance(found, Mapping):
        raise ConfigError(f'{where}: it has no keys')
    return found


def yaml() -> Any:
    """Returns the module yaml; raises ConfigError if the library is missing."""
    try:
        import yaml
    except ImportError:
        raise ConfigError("--configuration in YAML needs the library: pip install 'genlab[published]'") from None
    return yaml


def safetensors() -> Any:
    """Returns the module safetensors.numpy; raises ConfigError if the library is missing."""
    try:
        import safetensors.numpy
    except ImportError:
        raise ConfigError("--from or --to=safetensors needs the library: pip install 'genlab[published]'") from None
    return safetensors.numpy


def _read_npz(path: Path) -> Tree:
    if not zipfile.is_zipfile(path):
        raise ConfigError(f'--from=npz: {path} is no .npz file')
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open('wb') as file:  # np.savez would add a suffix to the name
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _read_msgpack(path: Path) -> Tree:
    return flax.serialization.msgpack_restore(path.read_bytes())


READERS: dict[str, Callable[[Path], Tree]] = {
    'safetensors': lambda path: safetensors().load_file(path),
    'torch': torch_file.read_tree,
    'nvlabs': torch_file.read_modules,
    'msgpack': _read_msgpack,
    'npz': _read_npz,
}
WRITERS: dict[str, Callable[[Path, Mapping[str, np.ndarray]], None]] = {
    'safetensors': lambda path, arrays: safetensors().save_file(dict(arrays), path),
    'npz': _write_npz,
}
