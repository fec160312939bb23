"""Maps the tensors of a published file to the variables of genlab's networks, and back, by one table.

An `Entry` of the table is one tensor of the peer: its name, the path of our variable, and how their layouts differ.
Several tensors may fill one variable: parts along its last axis (query, key and value), or rows (stacked blocks).
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from genlab.config import at
from genlab.errors import ConfigError, meant
from genlab.published import files
from genlab.published.files import Tree

# Names under which training scripts keep the state dict of one network; averages come first.
WRAPPERS = ('ema', 'g_ema', 'model', 'state_dict')


class Layout(NamedTuple):
    """Converts the layout of one tensor: `read` from the peer's to ours, `write` back. Both take the shape of ours."""

    read: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
    write: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


class Entry(NamedTuple):
    """One tensor of the peer's file.

    A tensor with `part` (i, n) fills the i-th of n equal parts of the last axis of our variable; with `row` i, row i of
    the first axis.
    """

    theirs: str  # name in the file
    ours: str  # path of our variable: network/collection/module/.../name
    layout: Layout
    part: tuple[int, int] = (0, 1)
    row: int | None = None


class Rewrite(NamedTuple):
    """Converts what no layout of one tensor can: tensors of the file, by name, to tensors of the entries, and back."""

    read: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
    write: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class Table(NamedTuple):
    """The tensors of one kind of file.

    `ignored` names tensors of the file that hold nothing to keep, by the end of their names, and `dropped` by their
    start. `constants` are variables of ours that the peer has in its code: path -> number.
    """

    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    constants: Mapping[str, float] = {}
    sections: tuple[tuple[str, ...], ...] = ((),)  # places of the tensors in the file, the preferred one first
    rewrite: Rewrite | None = None


class Record(NamedTuple):
    """One published network: its files and its configuration, in the terms of a config of genlab.

    `tables` maps a config to the kinds of files, by name. `translate` maps the peer's configuration to the values that
    our config must have, by dotted key, and refuses each key that it does not know; None: its files carry none.
    """

    source: str  # who publishes it
    tables: Callable[[ConfigDict], Mapping[str, Table]]
    translate: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    configuration: tuple[str, ...] | None = (
        None  # place of the configuration in the file; None: it is a file of its own
    )
    modules: Mapping[str, type] = {}  # key of our config -> the network whose options it holds

    def complete(self, config: ConfigDict) -> ConfigDict:
        """Returns the config with the options that it leaves at the defaults of its networks."""
        config = config.copy_and_resolve_references()
        with config.unlocked():
            for key, module in self.modules.items():
                chosen = at(config, key)
                for field in dataclasses.fields(module):
                    if field.name not in ('parent', 'name') and field.default is not dataclasses.MISSING:
                        chosen[field.name] = chosen.get(field.name, field.default)
        return config


def permuted(*axes: int, flip: tuple[int, ...] = ()) -> Layout:
    """Returns the layout whose axes, permuted by `transpose`, are ours; our axes in `flip` run backwards."""
    back = tuple(np.argsort(axes))
    return Layout(
        lambda array, shape: np.flip(array.transpose(axes), flip),
        lambda array, shape: np.flip(array, flip).transpose(back),
    )


def reshaped(layout: Layout, shape: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Layout:
    """Returns a layout whose result is then reshaped to ours. `shape` maps the shape of ours to the one before."""
    return Layout(
        lambda array, ours: layout.read(array, shape(ours)).reshape(ours),
        lambda array, ours: layout.write(array.reshape(shape(ours)), shape(ours)),
    )


SAME = Layout(lambda array, shape: array, lambda array, shape: array)
DENSE = permuted(1, 0)  # torch.nn.Linear: [out, in]
CONV = permuted(2, 3, 1, 0)  # torch.nn.Conv2d: [out, in, h, w]
CONV_TRANSPOSE = permuted(2, 3, 0, 1, flip=(0, 1))  # torch.nn.ConvTranspose2d: [in, out, h, w], run backwards
GAIN_DENSE = Layout(lambda array, shape: array.reshape(shape), lambda array, shape: array.reshape(-1, 1))
GAIN_CONV = Layout(lambda array, shape: array.reshape(shape), lambda array, shape: array.reshape(-1, 1, 1, 1))
# A 1x1 convolution of theirs that is a dense layer of ours.
CONV_DENSE = reshaped(CONV, lambda ours: (1, 1, *ours))
CONV1D_DENSE = reshaped(permuted(2, 1, 0), lambda ours: (1, *ours))  # torch.nn.Conv1d: [out, in, 1]


def packed(layout: Layout, heads: int, order: tuple[str, str, str]) -> Layout:
    """Returns the layout of a packed layer of query, key and value, whose outputs are (part, head, channel) here.

    Args:
      layout: of the layer without that.
      heads: their number.
      order: of 'part', 'head' and 'channel' there.
    """
    sizes, ours = {'part': 3, 'head': heads, 'channel': -1}, ('part', 'head', 'channel')

    def turn(array: np.ndarray, old: tuple[str, ...], new: tuple[str, ...]) -> np.ndarray:
        split = array.reshape(*array.shape[:-1], *(sizes[name] for name in old))
        axes = (array.ndim - 1 + old.index(name) for name in new)
        return split.transpose(*range(array.ndim - 1), *axes).reshape(array.shape)

    return Layout(
        lambda array, shape: turn(layout.read(array, shape), order, ours),
        lambda array, shape: layout.write(turn(array, ours, order), shape),
    )


def affine(theirs: str, ours: str, layout: Layout, bias: bool = True, **place: Any) -> Iterator[Entry]:
    """Yields weight and bias of a dense layer or a convolution."""
    yield Entry(f'{theirs}.weight', f'{ours}/kernel', layout, **place)
    if bias:
        yield Entry(f'{theirs}.bias', f'{ours}/bias', SAME, **place)


def weight_norm(theirs: str, ours: str, layout: Layout, bias: bool = True) -> Iterator[Entry]:
    """Yields direction, gain and bias of a layer with torch.nn.utils.weight_norm."""
    yield Entry(f'{theirs}.weight_v', f'{ours}/kernel', layout)
    yield Entry(f'{theirs}.weight_g', f'{ours}/gain', GAIN_DENSE if layout is DENSE else GAIN_CONV)
    if bias:
        yield Entry(f'{theirs}.bias', f'{ours}/bias', SAME)


def norm(theirs: str, ours: str) -> Iterator[Entry]:
    """Yields scale and bias of a normalisation."""
    yield Entry(f'{theirs}.weight', f'{ours}/scale', SAME)
    yield Entry(f'{theirs}.bias', f'{ours}/bias', SAME)


def residual(theirs: str, ours: str, first: int = 1, embedding: str = '', shortcut: str = '') -> Iterator[Entry]:
    """Yields the tensors of a residual block: two pairs of normalisation and convolution, and what else it has.

    Args:
      theirs: name of the block.
      ours: path of the block.
      first: number of the first pair in the peer's names.
      embedding: the peer's name of the dense layer of the time; '': none.
      shortcut: the peer's name of the 1x1 convolution parallel to the pairs; '': none.
    """
    for j in (0, 1):
        yield from norm(f'{theirs}.norm{first + j}', f'{ours}/normalization_{j}')
        yield from affine(f'{theirs}.conv{first + j}', f'{ours}/convolution_{j}', CONV)
    if embedding:
        yield from affine(f'{theirs}.{embedding}', f'{ours}/embedding', DENSE)
    if shortcut:
        yield from affine(f'{theirs}.{shortcut}', f'{ours}/shortcut', CONV)


def codebook(network: str, decay: float) -> dict[str, float]:
    """Returns constants of a quantiser that the peers do not have.

    All entries count as just used. Averages count as old, so their correction for a start from zero is 1.

    Args:
      network: its name.
      decay: of its moving averages; 0: gradients train the entries.
    """
    path = f'{network}/codebook'
    return {f'{path}/idle': 0.0, f'{path}/steps': 1e6} | ({} if decay else {f'{path}/shift': 0.0})


def section(tree: Tree, table: Table, where: str) -> Mapping[str, Any]:
    """Returns the part of a file that holds the tensors of a table; see `section_of`."""
    if (place := section_of(tree, table)) is None:
        raise ConfigError(f'{where}: it has none of {", ".join(".".join(place) for place in table.sections)}')
    found: Mapping[str, Any] = _at(tree, place)
    return found


def section_of(tree: Tree, table: Table) -> tuple[str, ...] | None:
    """Returns the first of `table.sections` and `WRAPPERS` that holds a tensor of the table.

    If none does, it returns the first of `table.sections` that is in the file, or None.
    """
    known = {entry.theirs for entry in table.entries}
    there = [place for place in table.sections if isinstance(_at(tree, place), Mapping)]
    wrapped = [(name,) for name in WRAPPERS if isinstance(_at(tree, (name,)), Mapping)]
    holding = (place for place in (*there, *wrapped) if not known.isdisjoint(unwrapped(files.flat(_at(tree, place)))))
    return next(holding, there[0] if there else None)


def unwrapped(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Removes the prefix of PyTorch's parallel wrappers, if all names have it."""
    prefix = 'module.' if all(name.startswith('module.') for name in tensors) else ''
    return {name.removeprefix(prefix): array for name, array in tensors.items()}


def _at(tree: Tree, place: tuple[str, ...]) -> Any:
    for name in place:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def to_ours(
    tensors: Mapping[str, np.ndarray],
    table: Table,
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
    dtype: Any = np.float32,
) -> dict[str, np.ndarray]:
    """Converts the tensors of a file to our variables.

    Args:
      tensors: name -> array.
      table: of the record.
      shapes: path -> shape of our variables, of all networks.
      where: the file, for error messages.
      dtype: of the result.

    Returns:
      path -> array, of the networks that the table fills.

    Raises:
      ConfigError: a tensor is missing, unknown, or of another shape; the message names it.
    """
    known = {entry.theirs for entry in table.entries}
    if missing := known - {*tensors}:
        raise ConfigError(f'{where}: the tensor {min(missing)} is missing: wrong file, or wrong sizes')
    extra = {name for name in tensors if not name.endswith(table.ignored) and not name.startswith(table.dropped)}
    if surplus := extra - known:
        name = min(surplus)
        raise ConfigError(f'{where}: no variable for the tensor {name}{meant(name, known)}: wrong file, or wrong sizes')
    if table.rewrite:
        tensors = table.rewrite.read(tensors)
    found: dict[str, np.ndarray] = {}
    filled: dict[str, int] = {}
    for entry in table.entries:
        if entry.ours not in shapes:
            raise ConfigError(f'{where}: the tensor {entry.theirs} fills {entry.ours}, which this config does not have')
        whole = found.setdefault(entry.ours, np.zeros(shapes[entry.ours], dtype))
        place = _view(whole, entry)
        try:
            array = entry.layout.read(tensors[entry.theirs], place.shape)
        except ValueError:  # another number of axes or of values
            array = tensors[entry.theirs][None]
        if array.shape != place.shape:
            expected = entry.layout.write(np.empty(place.shape, np.float32), place.shape).shape
            raise ConfigError(
                f'{where}: the tensor {entry.theirs} has the shape {tensors[entry.theirs].shape}, '
                f'and this config needs {expected}'
            )
        place[...] = array
        filled[entry.ours] = filled.get(entry.ours, 0) + place.size
    found |= {path: np.full(shapes[path], value, dtype) for path, value in table.constants.items()}
    networks = {path.split('/')[0] for path in found}
    for path in shapes:
        if path.split('/')[0] in networks and path not in found:
            raise ConfigError(f'{where}: no tensor fills {path} of this config: it is another network')
        if path in filled and filled[path] != found[path].size:
            raise ConfigError(f'{where}: the tensors fill {filled[path]} of the {found[path].size} values of {path}')
    return found


def to_theirs(variables: Mapping[str, np.ndarray], table: Table) -> dict[str, np.ndarray]:
    """Converts our variables, path -> array, to the tensors of the peer; ignored ones are left out."""
    found = {}
    for entry in table.entries:
        place = _view(np.asarray(variables[entry.ours]), entry)
        found[entry.theirs] = np.asarray(entry.layout.write(place, place.shape), order='C')
    return table.rewrite.write(found) if table.rewrite else found


def paths(networks: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the leaves of network -> collection -> nested names, by path."""
    leaves = jax.tree.leaves_with_path(dict(networks))
    return {'/'.join(str(getattr(key, 'key', key)) for key in path): leaf for path, leaf in leaves}


def nested(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts of leaves by path, the inverse of `paths`."""
    return traverse_util.unflatten_dict(dict(variables), sep='/')


def identity(shapes: Iterable[str]) -> Table:
    """Returns the table of files that genlab wrote: our own paths, in our layouts."""
    return Table(tuple(Entry(path, path, SAME) for path in shapes))


class Keys:
    """The keys of a peer's configuration. Each is taken, or refused by name in `done`.

    Args:
      found: key -> value.
    """

    def __init__(self, found: Mapping[str, Any]):
        self.rest = dict(found)

    def take(self, name: str, default: Any = None) -> Any:
        """Returns the value of a key, with tuples for lists; `default` if it is missing."""
        value = self.rest.pop(name, default)
        return tuple(value) if isinstance(value, list) else value

    def inner(self, name: str) -> 'Keys':
        """Returns the keys below a key; refuses another value, and no value."""
        value = self.take(name)
        if not isinstance(value, Mapping):
            raise ConfigError(f'the key {name} of its configuration is missing or holds no keys')
        return Keys(value)

    def drop(self, *names: str) -> None:
        """Reads keys that do not change the network."""
        for name in names:
            self.rest.pop(name, None)

    def only(self, **values: Any) -> None:
        """Refuses other values than these; a missing key has this one."""
        for name, value in values.items():
            if (found := self.take(name, value)) != value:
                raise ConfigError(f'the key {name}={found!r} of its configuration is not supported, only {value!r}')

    def done(self) -> None:
        """Refuses the keys that are left."""
        for name in sorted(self.rest):
            raise ConfigError(f'the key {name}={self.rest[name]!r} of its configuration is unknown')


def check(config: ConfigDict, expected: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError where a config differs from the translation of the peer's configuration."""
    for key, value in expected.items():
        found = at(config, key)
        same = np.allclose(found, value) if isinstance(value, float) and found is not None else found == value
        if not same:
            raise ConfigError(
                f'{where}: it was made with config.{key}={value!r}, here it is {found!r}: give that value'
            )


def _view(whole: np.ndarray, entry: Entry) -> np.ndarray:
    """Returns the values of our variable that an entry fills, as a view."""
    found = whole if entry.row is None else whole[entry.row]
    number, parts = entry.part
    size = found.shape[-1] // parts if parts > 1 else 0
    return found[..., number * size : (number + 1) * size] if parts > 1 else found
