"""Makes an ordinary run folder of published weights, and a file of weights of a run."""

import dataclasses
import datetime
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import genlab
from genlab import data, experiment, modes, published
from genlab.config import at
from genlab.errors import ConfigError, choose, warn
from genlab.experiment import Build
from genlab.published import files, mapping
from genlab.published.mapping import Record, Table
from genlab.published.recorded import check_recorded
from genlab.run import stops, workdir
from genlab.run.files import write_json
from genlab.training import parallel, pretrained
from genlab.training.checkpoint import NEWEST, Checkpoints
from genlab.training.program import make_init, outline, programs
from genlab.training.state import State, not_finite

PROVENANCE = 'published.json'  # in the folder of a run that was made of published weights


def make(
    config: ConfigDict,
    build: Build,
    folder: pathlib.Path,
    form: str,
    paths: Sequence[pathlib.Path],
    name: str,
    configuration: pathlib.Path | None = None,
    recorded: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Makes a run folder whose checkpoint, of step 0, holds the weights of published files.

    Networks that the files do not have keep their first weights; optimizers start fresh. The moving averages of
    parameters start at the weights.

    Args:
      config: of the run.
      build: the experiment of the config.
      folder: of the run, new or without a checkpoint.
      form: format of the files, an entry of `files.READERS`.
      paths: the files. Each fills other networks.
      name: of the record, an entry of `published.RECORDS` or `published.OWN`.
      configuration: the peer's configuration, JSON or YAML; None if it is in the file or there is none.
      recorded: inputs and outputs of the peer that the networks must agree with, see `genlab.published.recorded`.

    Returns:
      What is written to published.json.

    Raises:
      ConfigError: a file is not what the record and the config need. Nothing was written then.
    """
    if steps := stops.checkpoints(folder):
        raise ConfigError(f'--workdir={folder}: it holds checkpoint {steps[-1]}: name another folder')
    placement = parallel.place(config.placement, tensor=config.tensor)
    missing = data.missing(config.model)
    program = programs(config, build, placement, declared=not missing)[0]
    init = make_init(program)
    shapes = {path: leaf.shape for path, leaf in mapping.paths(outline(init).variables()).items()}
    record = record_of(name, shapes)
    found: dict[str, np.ndarray] = {}
    kinds: dict[str, str] = {}
    for path in paths:
        tree = files.read(form, path)
        _check_configuration(record, program.config, tree, path, configuration)
        parts = parted(record.tables(record.complete(program.config)), tree, str(path))
        for _, table, tensors in parts:
            arrays = mapping.to_ours(tensors, table, shapes, str(path))
            if twice := {*arrays} & {*found}:
                raise ConfigError(f'{path}: another file has filled {min(twice)} already: give each network once')
            found |= arrays
        kinds[str(path)] = ', '.join(kind for kind, _, _ in parts)
    networks = {path.split('/')[0] for path in found}
    differences = check_recorded(recorded, program, found) if recorded else {}
    state = parallel.initial(placement, init)
    if program.experiment.start:
        state = program.experiment.start(state, program.batches.source, placement)
    state = _filled(state, found, placement)
    if bad := not_finite(state):
        raise ConfigError(f'{", ".join(map(str, paths))}: state{bad[0]} is not finite: the file is damaged')
    provenance = {
        'record': name,
        'source': record.source,
        'format': form,
        'files': [
            {'name': path.name, 'kind': kinds[str(path)], 'bytes': path.stat().st_size, 'sha256': checksum(path)}
            for path in paths
        ],
        'networks': sorted(networks),
        'fresh': sorted({*state.params} - networks),
        'differences': differences,
        'genlab': genlab.__version__,
        'converted': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    }
    with modes.claimed(config, build, folder):
        if missing:
            write_json(folder / workdir.FACTS, {f'model.{key}': at(program.config.model, key) for key in missing})
        write_json(folder / PROVENANCE, provenance)
        with Checkpoints(folder / 'checkpoints', config.checkpoint.keep, warn=warn) as checkpoints:
            checkpoints.save(0, state, {'totals': {}, 'since': 0})
    return provenance


def export(
    folder: pathlib.Path,
    form: str,
    target: pathlib.Path,
    name: str = published.OWN,
    kind: str = '',
    checkpoint: str = NEWEST,
) -> int:
    """Writes the averaged weights of a checkpoint of a run, and <target>.json with shapes and the config.

    Args:
      folder: of the run.
      form: format of the file, an entry of `files.WRITERS`.
      target: path of the file.
      name: of the record whose names and layouts are written.
      kind: which table of the record, where it has several; '' takes the first one.
      checkpoint: 'newest', 'best' or a step.

    Returns:
      The step of the checkpoint.
    """
    config = pretrained.config_of(str(folder), '--workdir')
    placement = parallel.place(config.placement, tensor=config.tensor)
    build = experiment.load(config.experiment)
    step, state, _ = pretrained.restore(config, build, folder, placement, checkpoint=checkpoint)
    variables = {
        path: np.asarray(leaf) for path, leaf in mapping.paths(parallel.to_host(state.variables(averaged=True))).items()
    }
    record = record_of(name, variables)
    tables = record.tables(record.complete(config))
    table = choose(tables, kind, '--kind') if kind else next(iter(tables.values()))
    arrays = mapping.to_theirs(variables, table)
    notes = {'step': step, 'record': name, 'genlab': genlab.__version__, 'config': workdir.plain(config)}
    files.write(form, target, arrays, notes)
    return step


def record_of(name: str, shapes: Mapping[str, Any]) -> Record:
    """Returns a record by its name. `shapes` has the paths of our variables, which a file of genlab names."""
    if name == published.OWN:
        return Record('genlab', lambda config: {published.OWN: mapping.identity(shapes)})
    choose(dict.fromkeys((*published.RECORDS, published.OWN)), name, '--record')
    return published.record(name)


def checksum(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _check_configuration(
    record: Record, config: ConfigDict, tree: Any, path: pathlib.Path, given: pathlib.Path | None
) -> None:
    """Compares the config with the peer's configuration, if there is one."""
    where, found = str(given or path), None
    if given is not None:
        if record.translate is None:
            raise ConfigError(f'--configuration={given}: the record reads none: leave it out')
        found = files.configuration(given)
    elif record.configuration is not None:
        found = tree
        for name in record.configuration:
            found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, Mapping) and record.translate is not None:
        try:
            expected = record.translate(found)
        except ConfigError as error:
            raise ConfigError(f'{where}: {error}') from None
        mapping.check(record.complete(config), expected, where)


Matched = tuple[str, Table, dict[str, np.ndarray]]  # kind, table, tensors


def parted(tables: Mapping[str, Table], tree: Any, where: str) -> list[Matched]:
    """Returns the kind, table and tensors of each section of a file that holds tensors of a table."""
    places = {kind: mapping.section_of(tree, table) for kind, table in tables.items()}
    found = {place for place in places.values() if place} or {()}  # the whole file counts where it has no sections
    parts = [{kind: table for kind, table in tables.items() if places[kind] == place} for place in sorted(found)]
    return [matching(part or tables, tree, where) for part in parts]


def matching(tables: Mapping[str, Table], tree: Any, where: str) -> Matched:
    """Returns the kind, table and tensors of the section whose names fit the table best.

    The end of the file's name is the kind; it distinguishes tables with the same names.
    """

    def likeness(kind: str) -> float:
        names, known = {*found[kind]}, {entry.theirs for entry in tables[kind].entries}
        return len(names & known) / max(len(names | known), 1)

    found, error = {}, ConfigError(where)
    for kind, table in tables.items():
        try:
            found[kind] = mapping.unwrapped(files.flat(mapping.section(tree, table, where)))
        except ConfigError as fault:
            error = fault
    if not found:
        raise error
    best = max(found, key=likeness)
    names = lambda kind: {entry.theirs for entry in tables[kind].entries}
    if len(same := [kind for kind in found if names(kind) == names(best)]) > 1:
        named = [kind for kind in same if pathlib.Path(where).stem.endswith(kind)]
        if not named:
            raise ConfigError(f'{where}: {", ".join(same)} have the same tensors: end its name with one of them')
        best = named[0]
    return best, tables[best], found[best]


def _filled(state: State, found: Mapping[str, np.ndarray], placement: parallel.Placement) -> State:
    """Returns the state with the variables `found` by path; averages start at the parameters."""

    def put(tree: Any, collection: str = '') -> Any:
        """Replaces the leaves of network -> variables, or with '' of network -> collection -> variables."""

        def leaf(path: tuple, old: jax.Array) -> jax.Array:
            names = [str(getattr(key, 'key', key)) for key in path]
            name = '/'.join([names[0], collection, *names[1:]] if collection else names)
            if name not in found:
                return old
            return parallel.laid_out(found[name].astype(old.dtype), old.sharding)

        return jax.tree_util.tree_map_with_path(leaf, tree)

    return dataclasses.replace(
        state, params=put(state.params, 'params'), stats=put(state.stats), average=put(state.average, 'params')
    )
