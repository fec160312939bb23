"""What `--mode` does."""

import contextlib
import json
import pathlib
import sys

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import data, evaluation
from genlab.data import captions
from genlab.errors import ConfigError, UserError
from genlab.experiment import Build, Experiment
from genlab.latents import explore as exploration
from genlab.latents import strips
from genlab.reporting import run as report
from genlab.run import describe as description
from genlab.run import images, workdir
from genlab.sampling import drawing
from genlab.training import loop as training
from genlab.training import parallel, pretrained
from genlab.training import plan as planning
from genlab.training.state import State


def train(config: ConfigDict, build: Build, folder: pathlib.Path) -> None:
    """Trains to the end, going on from the newest checkpoint if there is one, and says where to look."""
    with claimed(config, build, folder):
        training.fit(config, build, folder)
    if jax.process_index() == 0:
        print(f'done: {folder / "report.html"} shows the run, {folder / "samples"} its samples')


@contextlib.contextmanager
def claimed(config: ConfigDict, build: Build, folder: pathlib.Path):
    """Holds the folder for this run. The first process looks after it; where it cannot, all of them stop."""
    with contextlib.ExitStack() as stack:
        error = None
        if jax.process_index() == 0:
            try:
                workdir.create(folder)
                stack.enter_context(workdir.lock(folder))
                workdir.claim(folder, config)
                workdir.write_json(folder / 'environment.json', workdir.environment())
                workdir.write_json(folder / 'networks.json', description.describe(config, build))
            except UserError as fault:
                error = fault
        if parallel.agree(error is not None):
            raise error or ConfigError(f'--workdir={folder}: the first process cannot write there')
        yield


def evaluate(config: ConfigDict, build: Build, folder: pathlib.Path) -> None:
    """Judges the newest checkpoint and writes evaluation.json and the report."""
    step, state, experiment, placement = restore(config, build, folder)
    note = lambda text: print(text, file=sys.stderr)
    judged = evaluation.evaluate(
        config, experiment, placement, state, note if jax.process_index() == 0 else lambda text: None
    )
    if jax.process_index() == 0:
        evaluation.write(folder, step, judged)
        report.write(folder)
        print(json.dumps(evaluation.plain(judged), indent=2))


def sample(
    config: ConfigDict,
    build: Build,
    folder: pathlib.Path,
    count: int | None,
    seed: int | None,
    prompt: str = '',
    label: str = '',
) -> None:
    """Draws samples of the newest checkpoint: a grid, single PNGs of images, all of them as .npz, and what each was told."""
    if prompt and label:
        raise ConfigError(f'--prompt={prompt!r} --label={label!r}: give one of them')
    step, state, experiment, placement = restore(config, build, folder)
    seed, words = config.seed if seed is None else seed, prompt or label
    drawn = drawing.draw(experiment, placement, state.variables(averaged=True), config, count, seed, words)
    target = folder / 'samples' / '-'.join([f'step-{step}-seed-{seed}', *captions.words_of(words)])
    if jax.process_index() == 0:
        target.mkdir(parents=True, exist_ok=True)
        reference = drawing.reference(data.load(config.data), config) if drawn.ndim == 2 else None
        images.save_png(target / 'grid.png', images.picture(drawn, reference))
        if drawn.ndim == 4:
            for number, image in enumerate(drawn):
                images.save_png(target / f'{number:05d}.png', images.to_uint8(image))
        np.savez_compressed(target / 'samples.npz', samples=drawn)
        if said := drawing.spoken(config, len(drawn), words):
            (target / 'told.txt').write_text(''.join(f'{number:05d} {line}\n' for number, line in enumerate(said)))
        print(f'{len(drawn)} samples of step {step}: {target}')


def explore(config: ConfigDict, build: Build, folder: pathlib.Path) -> None:
    """Looks between and around the codes of the newest checkpoint: pictures, animations and figures, and the report."""
    step, state, experiment, placement = restore(config, build, folder)
    seen = exploration.explore(config, experiment, placement, state)
    if jax.process_index() == 0:
        target = folder / 'explore'
        for name, picture in seen.pictures.items():
            images.save_png(target / f'{name}.png', picture)
        for name, frames in seen.animations.items():
            strips.save_gif(target / f'{name}.gif', frames)
        workdir.write_json(folder / 'explore.json', {'step': step, 'figures': seen.figures})
        report.write(folder)
        print(f'{len(seen.pictures)} pictures of step {step}: {target}')


def describe(config: ConfigDict, build: Build, as_json: bool) -> None:
    """Prints the networks of a config; with --json their totals."""
    networks = description.describe(config, build)
    print(json.dumps(description.totals(networks)) if as_json else description.table(networks))


def plan(config: ConfigDict, build: Build, topology: str | None) -> None:
    """Compiles the step ahead of time and prints what it takes."""
    print(planning.table(planning.plan(config, build, topology), config.train.microbatches))


def restore(
    config: ConfigDict, build: Build, folder: pathlib.Path
) -> tuple[int, State, Experiment, parallel.Placement]:
    """(step, state, experiment, placement) of the newest checkpoint of a run of this config."""
    keys = workdir.compare(folder, config)
    if keys:
        raise ConfigError(
            f'--workdir={folder}: its run has another {", ".join(keys)}: give the same, or name its folder'
        )
    placement = parallel.place(config.placement)
    step, state, program = pretrained.restore(config, build, folder, placement)
    return step, state, program.experiment, placement
