"""The command of a process, as any user could type it; it is published with the figures of a run."""

import pathlib
import shlex

# Flags that name private paths and hosts of one machine.
PLACES = ('workdir', 'config.data.dir', 'config.data.images_dir', 'coordinator')


def given(module: str, argv: list[str]) -> str | None:
    """Returns `python -m <module> ...` for a process with `argv`, or None if another program calls the module.

    Args:
      module: the dotted name of the entry point, e.g. 'genlab.main'.
      argv: sys.orig_argv; `main` edits sys.argv.
    """
    script = module.replace('.', '/') + '.py'
    places = [at for at, word in enumerate(argv) if word == module or word.endswith(script)]
    return typed(module, argv[places[0] + 1 :]) if places else None


def typed(module: str, words: list[str]) -> str:
    """Returns the command quoted for a shell, without the flags in `PLACES` and without absolute paths."""
    kept, rest = [], iter(words)
    for word in rest:
        if word.startswith('-') and word.lstrip('-').partition('=')[0] in PLACES:
            if '=' not in word:
                next(rest, None)  # its value
        else:
            kept.append(portable(word))
    return shlex.join(['python', '-m', module, *kept])


def portable(word: str) -> str:
    """Shortens an absolute path in a word: relative to the source tree if inside it, else its last component."""
    flag, equals, value = word.partition('=') if word.startswith('-') else ('', '', word)
    path, root = pathlib.Path(value), pathlib.Path(__file__).parents[2]
    if path.is_absolute():
        value = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
    return flag + equals + value
