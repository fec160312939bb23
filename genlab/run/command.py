"""The command that was given, as anyone could type it: it stands beside figures that are published."""

import pathlib
import shlex

PLACES = (
    'workdir',
    'config.data.dir',
    'coordinator',
)  # where one machine keeps things: private, and no part of the result


def given(module: str, argv: list[str]) -> str | None:
    """`python -m <module> ...` of a process with `argv`, or None if another program calls the module.

    argv: sys.orig_argv. `main` takes words out of sys.argv and looks up others; a person would not find them again."""
    script = module.replace('.', '/') + '.py'
    places = [at for at, word in enumerate(argv) if word == module or word.endswith(script)]
    return typed(module, argv[places[0] + 1 :]) if places else None


def typed(module: str, words: list[str]) -> str:
    """The command, quoted for a shell, without --workdir and the other `PLACES`, and without absolute paths."""
    kept, rest = [], iter(words)
    for word in rest:
        if word.startswith('-') and word.lstrip('-').partition('=')[0] in PLACES:
            if '=' not in word:
                next(rest, None)  # its value
        else:
            kept.append(portable(word))
    return shlex.join(['python', '-m', module, *kept])


def portable(word: str) -> str:
    """A word whose path, if it is absolute, begins at the source tree, or is the last name of it elsewhere."""
    flag, equals, value = word.partition('=') if word.startswith('-') else ('', '', word)
    path, root = pathlib.Path(value), pathlib.Path(__file__).parents[2]
    if path.is_absolute():
        value = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
    return flag + equals + value
