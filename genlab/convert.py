"""Published weights into a run folder, and the weights of a run into a file.

    python -m genlab.convert --from=torch FILE --config=configs/dcgan.py:paper64 --workdir=runs/dcgan [--record=...]
        [--check=recorded.npz]
    python -m genlab.convert --to=safetensors FILE --workdir=runs/dcgan [--record=...]

docs/guide/published.md lists the files. Exit codes mean what they mean for genlab.main."""

from genlab.run import requirements

if __name__ == '__main__':
    requirements.check()

import pathlib
import signal
import sys

from absl import app, flags

from genlab import main as command
from genlab import published
from genlab.errors import ConfigError, choose
from genlab.run import terminal
from genlab.run.files import path_of
from genlab.run.platform import set_up_jax

FLAGS = flags.FLAGS
DIRECTION = 'which direction? give --from=FORMAT and --config, or --to=FORMAT'
flags.DEFINE_string('from', '', 'Format of the files: safetensors, torch, nvlabs, msgpack or npz.')
flags.DEFINE_string('to', '', 'Format of the file to write: safetensors or npz.')
flags.DEFINE_string('record', '', 'Whose names and layouts (default: the first record of the config; --to: genlab).')
flags.DEFINE_string('configuration', '', "--from: the peer's configuration, JSON or YAML, where it is its own file.")
flags.DEFINE_string('check', '', '--from: recorded inputs and outputs (.npz) that the networks must agree with.')
flags.DEFINE_string('kind', '', '--to: which file of the record, where it has several, such as generator.')


def main() -> None:
    """Parses the flags and converts; an error becomes one line and an exit code."""
    terminal.prepare()
    app.run(
        lambda argv: sys.exit(command.guarded(run, argv[1:])),
        flags_parser=lambda argv: command.guarded(parse, argv),
    )


def parse(argv: list[str]) -> list[str]:
    """Parses the flags. Only --from needs a config: a run has its own."""
    given = [argument.lstrip('-') for argument in argv[1:] if argument.startswith('-')]
    if not any(argument.startswith(('from', 'to', 'help')) for argument in given):
        raise ConfigError(DIRECTION)
    if any(argument.startswith('to') for argument in given):
        return FLAGS(argv)
    return command.parse(argv)


def run(names: list[str]) -> int:
    """Converts the files `names`."""
    form, target = str(FLAGS['from'].value), str(FLAGS['to'].value)
    paths = [pathlib.Path(name).expanduser() for name in names]
    if bool(form) == bool(target):
        raise ConfigError(DIRECTION)
    if not paths:
        raise ConfigError('which file? name it without a flag, such as weights.safetensors')
    if not FLAGS.workdir and target:
        raise ConfigError('--to: name the folder of the run by --workdir')
    set_up_jax(only_compile=False)
    from genlab import experiment
    from genlab.published import files, runs

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if target:
        choose(files.WRITERS, target, '--to')
        if len(paths) > 1:
            raise ConfigError(f'--to={target}: name one file to write')
        folder = path_of(FLAGS.workdir)
        step = runs.export(folder, target, paths[0], FLAGS.record or published.OWN, FLAGS.kind, FLAGS.checkpoint)
        terminal.show(f'weights of step {step}: {paths[0]}, and their shapes next to it')
        return 0
    command.check_checkpoint('--from')
    choose(files.READERS, form, '--from')
    config = command.CONFIG.value
    folder = path_of(FLAGS.workdir) if FLAGS.workdir else command.default_workdir()
    configuration = pathlib.Path(FLAGS.configuration).expanduser() if FLAGS.configuration else None
    build = experiment.load(config.experiment)
    recorded = pathlib.Path(FLAGS.check).expanduser() if FLAGS.check else None
    made = runs.make(config, build, folder, form, paths, FLAGS.record or default_record(), configuration, recorded)
    for network, difference in made['differences'].items():
        terminal.show(f'{network}: largest relative difference from the recorded output {difference:.1e}')
    fresh = f'; not in the files, with first weights: {", ".join(made["fresh"])}' if made['fresh'] else ''
    terminal.show(f'{", ".join(made["networks"])} of {made["source"]}: {folder}{fresh}')
    return 0


def default_record() -> str:
    """Returns the first record of the file that --config names."""
    filename = command.config_flags.get_config_filename(FLAGS['config']).partition(':')[0]
    found = published.CONFIGS.get(pathlib.Path(filename).stem, 'it is a config of your own')
    if isinstance(found, str):
        raise ConfigError(
            f'--config={filename}: there is no record ({found}): give --record={published.OWN} for a file that genlab '
            f'wrote, or one of {", ".join(published.RECORDS)}'
        )
    return found[0]


if __name__ == '__main__':
    main()
