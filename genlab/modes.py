"""The modes of the command, `--mode`."""

import contextlib
import json
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import conditioning, data, evaluation
from genlab.conditioning import Given
from genlab.errors import ConfigError, UserError
from genlab.experiment import Build
from genlab.latents import explore as exploration
from genlab.latents import strips
from genlab.reporting import run as report
from genlab.run import describe as description
from genlab.run import images, record, sinks, terminal, workdir
from genlab.run.files import lock, start_empty, write_json
from genlab.sampling import drawing, inputs, rejection
from genlab.training import loop as training
from genlab.training import parallel, pretrained
from genlab.training import plan as planning
from genlab.training.checkpoint import NEWEST
from genlab.training.program import Program, check_first_step, declared
from genlab.training.state import State


def train(config: ConfigDict, build: Build, folder: pathlib.Path) -> None:
    """Trains to the end, from the newest checkpoint if there is one, and prints where the results are."""
    with claimed(config, build, folder):
        training.fit(config, build, folder)
    if jax.process_index() == 0:
        terminal.show(f'done: {folder / "report.html"} shows the run, {folder / "samples"} its samples')


@contextlib.contextmanager
def claimed(config: ConfigDict, build: Build, folder: pathlib.Path):
    """Locks the folder for this run and writes its metadata. If the first process cannot, all processes stop."""
    with contextlib.ExitStack() as stack:
        error: UserError | None = None
        if jax.process_index() == 0:
            try:
                sinks.check(config)
                networks, state = description.described(config, build)  # a config that is refused leaves no folder
                if not (folder / 'config.json').exists():
                    check_first_step(declared(config, build), state)
                workdir.create(folder)
                stack.enter_context(lock(folder))
                workdir.claim(folder, config)
                write_json(folder / 'environment.json', workdir.environment())
                write_json(folder / 'networks.json', networks)
            except UserError as fault:
                error = fault
            except OSError as fault:
                error = ConfigError(
                    f'--workdir={folder}: cannot write there ({fault.strerror}): make room, or name another'
                )
        if parallel.agree(error is not None):
            raise error or ConfigError(f'--workdir={folder}: the first process cannot write there')
        yield


def evaluate(config: ConfigDict, build: Build, folder: pathlib.Path, checkpoint: str = NEWEST) -> None:
    """Evaluates a checkpoint, 'newest', 'best' or a step, and writes evaluation.json and the report."""
    step, state, program, placement = restore(config, build, folder, checkpoint)
    record.check(folder, config)

    def note(text: str) -> None:
        if jax.process_index() == 0:
            terminal.say(f'{text}\n')

    result = evaluation.evaluate(program.config, program.experiment, placement, state, note)
    if jax.process_index() == 0:
        terminal.show(json.dumps(evaluation.plain(result), indent=2))  # first: the disk may be full
        try:
            evaluation.write(folder, step, result)
            report.write(folder)
        except OSError as error:
            raise UserError(f'evaluated and printed, but {folder} cannot be written ({error.strerror})') from None


def sample(
    config: ConfigDict,
    build: Build,
    folder: pathlib.Path,
    count: int | None,
    seed: int | None,
    prompt: str = '',
    label: str = '',
    path: str = '',
    boxes: str = '',
    resolution: int = 0,
    checkpoint: str = NEWEST,
) -> None:
    """Draws samples of a checkpoint.

    Writes a grid, a PNG per image, all samples as .npz, and their conditions, into a folder that `drawing.folder_name`
    names. It starts empty, so all its files are of this command. Images of given files are named after these.

    Args:
      config, build, folder: of the run.
      count: number of samples; None takes the number of files or layouts, else `config.sample.count`.
      seed: seed of the noise; None takes `config.seed`.
      prompt: a caption for every sample; '' for none.
      label: a class for every sample, by name or number; '' for none.
      path, boxes, resolution: of the files that condition the samples, see `inputs.read`.
      checkpoint: 'newest', 'best' or a step.
    """
    step, state, program, placement = restore(config, build, folder, checkpoint)
    config, experiment = program.config, program.experiment
    if experiment.conditions.any:  # other models sample without the data
        record.check(folder, config)
    seed = config.seed if seed is None else seed
    given = Given(prompt, label)
    if path or boxes:
        read = inputs.read(experiment.conditions, data.declared(config.data), path, boxes, resolution)
        given = read._replace(prompt=prompt, label=label)
    count = count or len(given.names) or config.sample.count
    conditions = drawing.condition_at(config, experiment.conditions, seed, given)
    drawn = rejection.draw(
        experiment, placement, state.variables(averaged=True), config, count, seed, conditions=conditions
    )
    target = folder / 'samples' / drawing.folder_name(config, step, seed, given)
    if jax.process_index() == 0:
        start_empty(target, ('*.png', 'samples.npz', 'conditions.txt'))
        reference = drawing.reference(data.load(config.data), config) if drawn.ndim < 4 else None
        condition = conditions(np.arange(len(drawn)))
        images.save_png(target / 'grid.png', drawing.picture(drawn, condition, reference))
        names = drawing.names(given, len(drawn))
        if drawn.ndim == 4:
            for name, image in zip(names, drawn):
                images.save_png(target / f'{name}.png', images.to_uint8(image))
        with (target / 'samples.npz').open('wb') as file:
            np.savez_compressed(file, samples=drawn)
        if condition and (lines := conditioning.describe(data.declared(config.data), condition)):
            text = ''.join(f'{name} {line}\n' for name, line in zip(names, lines))
            (target / 'conditions.txt').write_text(text)
        terminal.show(f'{len(drawn)} samples of step {step}: {target}')


def explore(config: ConfigDict, build: Build, folder: pathlib.Path, checkpoint: str = NEWEST) -> None:
    """Explores the codes of a checkpoint: 'newest', 'best' or a step.

    Writes pictures, animations, figures and the report.
    """
    step, state, program, placement = restore(config, build, folder, checkpoint)
    record.check(folder, config)
    seen = exploration.explore(program.config, program.experiment, placement, state)
    if jax.process_index() == 0:
        target = folder / 'explore'
        start_empty(target, ('*.png', '*.gif'))
        for name, picture in seen.pictures.items():
            images.save_png(target / f'{name}.png', picture)
        for name, frames in seen.animations.items():
            strips.save_gif(target / f'{name}.gif', frames)
        write_json(folder / 'explore.json', {'step': step, 'figures': seen.figures})
        report.write(folder)
        terminal.show(f'{len(seen.pictures)} pictures of step {step}: {target}')


def describe(config: ConfigDict, build: Build, as_json: bool) -> None:
    """Prints the networks of a config, or with --json their totals."""
    networks = description.describe(config, build)
    terminal.show(json.dumps(description.totals(networks)) if as_json else description.table(networks))


def plan(config: ConfigDict, build: Build, topology: str | None) -> None:
    """Compiles the step ahead of time and prints its memory and arithmetic."""
    terminal.show(planning.table(planning.plan(config, build, topology), config.train.microbatches))


def restore(
    config: ConfigDict, build: Build, folder: pathlib.Path, checkpoint: str = NEWEST
) -> tuple[int, State, Program, parallel.Placement]:
    """Returns (step, state, the phase of that step, placement) of a checkpoint of a run of this config."""
    keys = workdir.compare(folder, config)
    if keys:
        raise ConfigError(
            f'--workdir={folder}: its run has another {", ".join(keys)}: give the same, or name its folder'
        )
    placement = parallel.place(config.placement, tensor=config.tensor)
    return *pretrained.restore(config, build, folder, placement, checkpoint=checkpoint), placement
