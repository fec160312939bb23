"""The command.

    python -m genlab.main --config=configs/dcgan.py[:variant,...] [--mode=train] [--workdir=...] [--config.key=value]

Exit codes: 0 done; 1 an error that one line on stderr explains; 2 an invalid config, flag or workdir; 42 stopped by a
signal after saving, or another process of the run has ended: the same command continues the run; 130 interrupted where
there was nothing to save."""

import os
import signal
import sys

from genlab.run import requirements

if __name__ == '__main__':  # the imports below take seconds, and an exception raised within them may be lost
    requirements.check()
    signal.signal(signal.SIGINT, lambda number, frame: (os.write(2, b'genlab: interrupted\n'), os._exit(130)))

import ast
import contextlib
import difflib
import importlib.util
import pathlib
import re
import textwrap
import types
from collections.abc import Callable, Sequence

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from genlab.choices import is_named, named
from genlab.config import at, check_key, ending, put
from genlab.data.load import READERS
from genlab.errors import ConfigError, UserError
from genlab.run import terminal
from genlab.run.files import path_of
from genlab.run.platform import set_up_jax

MODES = ['train', 'evaluate', 'sample', 'explore', 'describe', 'plan', 'list']
FLAGS = flags.FLAGS
CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'A file of configs/, with :variant or :variant,variant for its variants.'
)
flags.DEFINE_enum(
    'mode',
    'train',
    MODES,
    'What to do. list: print the files of configs/ and their variants; it needs no config.',
)
flags.DEFINE_string('workdir', None, 'The folder of the run (default: runs/<config>-<variant>).')
flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')
flags.DEFINE_integer('count', None, 'sample: how many (default: config.sample.count).', lower_bound=1)
flags.DEFINE_integer('seed', None, 'sample: of the noise (default: config.seed).')
flags.DEFINE_string('prompt', '', 'sample: the caption that conditions all of them.')
flags.DEFINE_string('label', '', 'sample: the class that conditions all of them, by name or number.')
flags.DEFINE_string('input', '', 'sample: a picture or WAV file to translate, or a folder; results have their names.')
flags.DEFINE_string(
    'boxes', '', 'sample: a JSON file of layouts, [{"class": "circle", "box": [0.1, 0.2, 0.5, 0.6]}, ...].'
)
flags.DEFINE_integer('resolution', 0, 'sample: pixels per side of --input (default: as in the run).', lower_bound=0)
flags.DEFINE_string(
    'checkpoint', 'newest', 'sample, evaluate, explore, and convert --to: which one, newest, best or a step.'
)
flags.DEFINE_bool('json', False, 'describe: the totals as JSON.')
flags.DEFINE_string('topology', None, 'plan: a TPU topology to compile for, e.g. v5e:4x4 (needs the extra "tpu").')
flags.DEFINE_enum(
    'require', None, ['cpu', 'gpu', 'tpu'], 'Fail unless this is the kind of device that JAX computes on.'
)
flags.DEFINE_string('coordinator', '', 'host:port of process 0, where several processes train together.')
flags.DEFINE_integer('processes', None, 'How many processes.')
flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')


CHECKPOINTED = ('sample', 'evaluate', 'explore')  # the modes that read a checkpoint of --checkpoint
NO_CONFIG = 'which config? e.g. --config=configs/dcgan.py; --mode=list prints all of them'
ROOT = pathlib.Path(__file__).parents[1]  # the folder that holds genlab/ and configs/, installed or not


def main() -> None:
    """Parses the flags and runs the mode; an error becomes one line and an exit code."""
    terminal.prepare()
    app.run(lambda argv: sys.exit(guarded(run, argv)), flags_parser=lambda argv: guarded(parse, argv))


def guarded(function: Callable, *arguments):
    """Calls `function`; an error becomes one line on stderr and an exit code. With --debug it keeps its traceback."""
    try:
        return function(*arguments)
    except KeyboardInterrupt:  # outside of training, which has work to keep
        terminal.say('genlab: interrupted\n')
        sys.exit(130)
    except Exception as error:
        if {'--debug', '-debug', '--debug=true'} & {*sys.argv}:
            raise
        terminal.say(f'genlab: {one_line(error)}\n')
        sys.exit(2 if isinstance(error, flags.Error) else getattr(error, 'exit_code', 1))


def one_line(error: Exception) -> str:
    """Formats an error as one line."""
    text = ' '.join(str(error).split())
    text = re.sub(r"invalid literal for int\(\) with base 10: ('.*')", r'\1 is not a whole number', text)
    if isinstance(error, flags.UnrecognizedFlagError):
        near = difflib.get_close_matches(error.flagname, FLAGS, 1)
        hint = f'did you mean --{near[0]}?' if near else '--help lists the flags'
        return f'unknown flag --{error.flagname}: {hint}'
    if isinstance(error, (UserError, flags.Error)):
        return text
    if 'RESOURCE_EXHAUSTED' in text:
        return (
            'out of memory: raise config.train.microbatches, lower config.data.batch_size, compute in '
            f'config.model.dtype=bfloat16, or end other programs on the device ({text[:160]})'
        )
    return f'{type(error).__name__}: {text[:300]} (--debug shows where)'


def parse(argv: list[str], known: flags.FlagValues = FLAGS, chosen: flags.FlagHolder[ConfigDict] = CONFIG) -> list[str]:
    """Parses the flags with absl, after a check for unknown variants and keys that hints at near names.

    Args:
      argv: the words of the command.
      known: the flags that are set.
      chosen: the flag of them that holds the config.

    Returns:
      The words that are not flags.
    """
    argv = [re.sub('^--truncation=', '--config.sample.truncation=', locate(argument)) for argument in one_word(argv)]
    given = [argument.removeprefix('--config=') for argument in argv if argument.startswith('--config=')]
    if any(argument.lstrip('-').startswith('help') for argument in argv[1:]):
        with contextlib.suppress(SystemExit):  # absl exits with 1 after it has printed the help
            known(argv)
        sys.exit(0)
    if not given:
        rest = known(argv)
        if known.mode != 'list':
            near = [word for word in rest[1:] if '.py' in word]
            raise ConfigError(f'which config? did you mean --config={near[0]}?' if near else NO_CONFIG)
        return rest
    config = read(given[-1])
    ours = [argument for argument in argv[1:] if is_new_term(config, argument)] + of_choices(config, argv[1:])
    for argument in argv[1:]:
        if argument.startswith('--config.') and argument not in ours:
            check_key(config, argument.removeprefix('--config.').split('=')[0])
    sys.argv[:] = [argument for argument in argv if argument not in ours]  # ml_collections looks for overrides there
    try:
        rest = known(sys.argv)
    except flags.UnrecognizedFlagError as error:
        if not (near := ending(config, error.flagname)):
            raise
        meanings = ' or '.join(f'--{key}' for key in near[:3])
        raise ConfigError(f'unknown flag --{error.flagname}: did you mean {meanings}?') from None
    for argument in ours:
        (weigh if is_new_term(config, argument) else select)(chosen.value, argument)
    leave_source(chosen.value, {argument.split('=')[0] for argument in argv})
    return rest


def one_word(argv: list[str]) -> list[str]:
    """Rewrites `--config path` and `-config=path`, which absl accepts too, as --config=path."""
    argv = ['-' + argument if argument.startswith('-config') else argument for argument in argv]
    if '--config' in argv[:-1]:
        at = argv.index('--config')
        argv[at : at + 2] = [f'--config={argv[at + 1]}']
    return argv


def is_new_term(config: ConfigDict, argument: str) -> bool:
    """Returns whether the argument weights a term absent from the config: --config.losses.<player>.<term>=1.0."""
    keys = argument.removeprefix('--config.').split('=')[0].split('.')
    return (
        argument.startswith('--config.losses.')
        and len(keys) == 3
        and keys[1] in config.losses
        and keys[2] not in config.losses[keys[1]]
    )


def weigh(config: ConfigDict, argument: str) -> None:
    """Adds a term and its weight. An unknown term raises before the first step."""
    key, _, value = argument.removeprefix('--config.losses.').partition('=')
    player, term = key.split('.')
    try:
        with config.unlocked():
            config.losses[player][term] = float(value)
    except ValueError:
        raise ConfigError(f'{argument}: the weight of a term is a number') from None


def leave_source(config: ConfigDict, given: set[str]) -> None:
    """Empties the fields of a config's own data source that another source, given as a flag, does not read."""
    if '--config.data.source' in given:
        for field, readers in READERS.items():
            if f'--config.data.{field}' not in given and config.data.source not in readers:
                config.data[field] = type(config.data[field])()


def of_choices(config: ConfigDict, arguments: list[str]) -> list[str]:
    """Returns the arguments that switch a named choice, and those that set an option which the config does not hold.

    --config.sample.grid=karras switches; --config.sample.grid.rho=5 then sets an option of karras.
    """
    switches, options = {}, {}
    for argument in arguments:
        path = argument.removeprefix('--config.').split('=')[0]
        if not argument.startswith('--config.'):
            continue
        parents = path.split('.')[:-1]
        if is_named(at(config, path)):
            switches[path] = argument
        elif any(is_named(at(config, '.'.join(parents[:end]))) for end in range(1, len(parents) + 1)):
            options[path] = argument
    switched = tuple(f'{path}.' for path in switches)
    set_here = [argument for path, argument in options.items() if path.startswith(switched) or at(config, path) is None]
    return [*switches.values(), *set_here]


def select(config: ConfigDict, argument: str) -> None:
    """Applies an argument of `of_choices`. Another name replaces the choice with its options."""
    path, _, text = argument.removeprefix('--config.').partition('=')
    old, above = at(config, path), path.rpartition('.')[0]
    if not isinstance(at(config, above), ConfigDict):
        check_key(config, above)
        raise ConfigError(f'unknown key config.{path}: config.{above} is {at(config, above)!r}')
    with config.unlocked():
        if not is_named(old):
            put(config, path, literal(text))
        elif old.name != text:
            put(config, path, named(text))


def literal(text: str) -> object:
    """Parses a number, a tuple, True or False; anything else is a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return float(text) if text in ('inf', '-inf', 'nan') else text


def locate(argument: str) -> str:
    """Resolves --config=configs/x.py from any folder: a path absent here is looked up next to the package."""
    path = pathlib.Path(argument.removeprefix('--config=').partition(':')[0])
    packaged = ROOT / path
    if argument.startswith('--config=') and not path.exists() and packaged.exists():
        return argument.replace(str(path), str(packaged), 1)
    return argument


def read(path_and_variant: str) -> ConfigDict:
    """Returns the config of `path.py` or `path.py:variant,variant`. The file is Python and is executed."""
    path, _, variant = path_and_variant.partition(':')
    if not pathlib.Path(path).is_file():
        if variant_of := re.match(r'(.*\.py)[,;/ ]+(\S+)$', path):
            raise ConfigError(f'--config={path}: there is no such file (did you mean {":".join(variant_of.groups())}?)')
        found = difflib.get_close_matches(pathlib.Path(path).stem, [file.stem for file in config_files()], 1)
        near = f' (did you mean configs/{found[0]}.py?)' if found else ''
        raise ConfigError(f'--config={path}: there is no such file{near}; --mode=list prints all of configs/')
    try:
        module = load(path)
        return module.get_config(variant) if variant else module.get_config()
    except ConfigError as error:
        raise ConfigError(f'--config={path_and_variant}: {error}') from None


def load(path: str | pathlib.Path) -> types.ModuleType:
    """Returns the module of a config file, executed."""
    spec = importlib.util.spec_from_file_location('config', path)
    if spec is None or spec.loader is None:
        raise ConfigError(f'--config={path}: this is not a Python file')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_files() -> list[pathlib.Path]:
    """Returns the config files of genlab and of the current folder, by name.

    A file of the current folder comes before one of genlab of the same name, as `locate` finds it.
    """
    folders = (ROOT / 'configs', pathlib.Path('configs').absolute())
    found = {file.name: file for folder in folders for file in folder.glob('*.py') if file.name != '__init__.py'}
    return [found[name] for name in sorted(found)]


def outline(file: pathlib.Path) -> tuple[str, dict[str, str]] | None:
    """Returns the docstring of a config file, and those of its variants by name; None if it has no get_config.

    The file is parsed and not executed: a folder configs/ may hold files that do not belong to genlab.
    """
    tree = ast.parse(file.read_text(encoding='utf-8'))
    functions = {node.name: ast.get_docstring(node) or '' for node in tree.body if isinstance(node, ast.FunctionDef)}
    if 'get_config' not in functions:
        return None
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == 'VARIANTS' for target in node.targets):
            of = node.value.args if isinstance(node.value, ast.Call) else getattr(node.value, 'keys', [])
            names = [ast.unparse(entry).strip('\'"') for entry in of if entry is not None]
    return ast.get_docstring(tree) or '', {name: functions.get(name, '') for name in names}


def listing() -> str:
    """Returns what --mode=list prints: for each file of configs/ its path, its first sentence and its variants."""
    lines = []
    for file in config_files():
        try:
            found = outline(file)
        except (OSError, ValueError, SyntaxError) as error:  # one broken file must not hide the others
            found = f'cannot be read: {error}', {}
        if found is None:
            continue
        paragraph = ' '.join(found[0].split('\n\n')[0].split())
        sentence = textwrap.shorten(re.split(r'(?<!et al)\. ', paragraph)[0].rstrip('.'), 88, placeholder=' ...')
        lines.append(f'configs/{file.name:24}{sentence}'.rstrip())
        lines += textwrap.wrap(', '.join(found[1]), 120, initial_indent=' ' * 8 + ':', subsequent_indent=' ' * 9)
    return '\n'.join(lines)


def run(words: Sequence[str] = ()) -> int:
    """Runs the mode.

    Args:
      words: the name of the program, then words of the command that are not flags; there must be none.
    """
    if words[1:]:
        hint = f'did you mean --mode={words[1]}?' if words[1] in MODES else 'flags begin with --, such as --mode=sample'
        raise ConfigError(f'{words[1]!r} is not a flag: {hint}')
    if FLAGS.mode == 'list':
        print(listing())
        return 0
    if CONFIG.value is None:
        raise ConfigError(NO_CONFIG)
    if FLAGS.mode not in CHECKPOINTED:
        check_checkpoint(f'--mode={FLAGS.mode}')
    folder = path_of(FLAGS.workdir) if FLAGS.workdir else default_workdir()
    set_up_jax(only_compile=bool(FLAGS.topology))
    from genlab import experiment, modes
    from genlab.run import processes
    from genlab.training import parallel

    signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on, what is open is closed first
    config = CONFIG.value
    parallel.start(FLAGS.coordinator, FLAGS.processes, FLAGS.process_id, FLAGS.require, config.train.heartbeat)
    build = experiment.load(config.experiment)
    with processes.together(config.train.heartbeat):
        if FLAGS.mode == 'train':
            modes.train(config, build, folder)
        elif FLAGS.mode == 'evaluate':
            modes.evaluate(config, build, folder, FLAGS.checkpoint)
        elif FLAGS.mode == 'sample':
            modes.sample(
                config,
                build,
                folder,
                FLAGS.count,
                FLAGS.seed,
                FLAGS.prompt,
                FLAGS.label,
                FLAGS.input,
                FLAGS.boxes,
                FLAGS.resolution,
                FLAGS.checkpoint,
            )
        elif FLAGS.mode == 'explore':
            modes.explore(config, build, folder, FLAGS.checkpoint)
        elif FLAGS.mode == 'describe':
            modes.describe(config, build, FLAGS.json)
        elif FLAGS.mode == 'plan':
            modes.plan(config, build, FLAGS.topology)
    return 0


def check_checkpoint(where: str) -> None:
    """Raises ConfigError if a checkpoint is named, by a command that reads none or always the newest one."""
    if FLAGS.checkpoint != 'newest':
        raise ConfigError(
            f'--checkpoint={FLAGS.checkpoint} does not apply to {where}: it is for --mode={", ".join(CHECKPOINTED)} '
            'and convert --to'
        )


def default_workdir() -> pathlib.Path:
    """Returns runs/<config>-<variant>-<variant> in the current folder."""
    path, _, variant = config_flags.get_config_filename(FLAGS['config']).partition(':')
    return pathlib.Path('runs') / '-'.join(filter(None, (pathlib.Path(path).stem, *variant.split(','))))


if __name__ == '__main__':
    main()
