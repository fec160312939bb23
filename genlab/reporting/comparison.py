"""Results: one page that compares runs, in Markdown and in HTML, built only from the files in their folders.

    python -m genlab.results runs/dcgan runs/dcgan-mnist --markdown docs/RESULTS.md --pictures docs/results
    python -m genlab.results runs/* --html comparison.html                # with curves and the settings that differ
    python -m genlab.results runs/dcgan --keep docs/results/runs          # small copies, for the repository
    python -m genlab.results docs/results/runs/* --markdown docs/RESULTS.md   # shows those pictures in place

One table lists all runs (system, data, parameters, steps, minutes, device, command); one more table per part of their
evaluations lists the figures. Each row has a protocol id. Figures compare only if their ids are equal; the best of
those is bold. Without --markdown and --html the Markdown is printed. The HTML also has the curves of all runs on shared
axes, and the settings in which their configs differ. For it, a run need not be evaluated.

Exit codes: 0 done; 1 a file cannot be written; 2 no given folder holds such a run.
"""

import argparse
import glob
import itertools
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

from genlab.errors import ConfigError, UserError, warn
from genlab.reporting.comparison_page import html, markdown
from genlab.reporting.comparison_pictures import in_place, pictures, save
from genlab.reporting.comparison_tables import Run, overview, part_tables, read
from genlab.reporting.keep import keep
from genlab.run import command, terminal
from genlab.run.files import path_of, write_text


def main(words: Sequence[str] | None = None) -> None:
    """Parses the arguments and writes the page. An error becomes one line and an exit code.

    Args:
      words: the arguments; None takes those of the process.
    """
    words = sys.argv[1:] if words is None else list(words)
    arguments = parser().parse_args(words)
    try:
        make(arguments, typed(words, arguments.runs))
    except (UserError, OSError) as error:
        terminal.say(f'genlab: {" ".join(str(error).split())}\n')
        sys.exit(getattr(error, 'exit_code', 1))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command; its help is the docstring of this module."""
    first, _, rest = (__doc__ or '').partition('\n')
    known = argparse.ArgumentParser(
        'python -m genlab.results', description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known.add_argument('runs', nargs='*', metavar='RUN', help='the folder of an evaluated run')
    known.add_argument('--markdown', metavar='FILE', help='write Markdown to FILE')
    known.add_argument(
        '--html', metavar='FILE', help='write one self-contained HTML file: tables, curves, settings and pictures'
    )
    known.add_argument(
        '--pictures',
        metavar='FOLDER',
        help='write small copies of the newest samples and of evaluation/*.png to FOLDER; the Markdown shows them. '
        'Without it the Markdown shows the small pictures that lie below its folder, as those of kept runs do',
    )
    known.add_argument(
        '--keep',
        metavar='FOLDER',
        help='write what the tables need of each run to FOLDER/<run>: its JSON files and small pictures',
    )
    return known


def typed(words: Sequence[str], runs: Sequence[str]) -> str:
    """Returns the command on one short line: a shell has replaced a pattern such as runs/* by all its folders.

    Args:
      words: the arguments.
      runs: those that name folders.
    """
    line = command.typed('genlab.results', list(words))
    for parent, group in itertools.groupby(runs, lambda run: os.path.dirname(os.path.normpath(run))):
        given = list(group)
        folders = [os.path.normpath(run) for run in given]
        start = os.path.join(parent, os.path.commonprefix([os.path.basename(folder) for folder in folders]))
        if len(folders) > 1 and {*folders} == {*glob.glob(f'{glob.escape(start)}*')}:
            spelled = shlex.join(map(command.portable, given))
            short = os.path.join(command.portable(parent) if parent else '', os.path.basename(start))
            line = line.replace(spelled, f'{shlex.quote(short) if short else ""}*')
    return line


def make(arguments: argparse.Namespace, made_by: str) -> None:
    """Writes the requested pages.

    Args:
      arguments: the parsed arguments.
      made_by: the command, which the pages name.
    """
    everything = gather(arguments.runs, curves=bool(arguments.html))
    runs = [run for run in everything if run.evaluation]
    tables = [overview(runs), *part_tables(runs)]
    shown = {run.name: pictures(run) for run in everything} if arguments.pictures or arguments.html else {}
    base = os.path.dirname(os.path.abspath(arguments.markdown)) if arguments.markdown else os.getcwd()
    if arguments.pictures:
        links = save({run.name: shown[run.name] for run in runs}, arguments.pictures, base)
    else:
        found = {run.name: in_place(run, base) for run in runs} if arguments.markdown else {}
        links = {name: linked for name, linked in found.items() if linked}
    if arguments.keep:
        for run in runs:
            keep(run, pathlib.Path(arguments.keep) / run.name)
    text = markdown(runs, tables, links, made_by)
    if arguments.markdown:
        write_text(arguments.markdown, text)
    if arguments.html:
        write_text(arguments.html, html(everything, [overview(everything), *tables[1:]], shown, made_by))
    for path in filter(None, (arguments.markdown, arguments.html, arguments.keep)):
        count = len(everything if path == arguments.html else runs)
        print(f'{path}: {count} run{"s" * (count != 1)}')
    if not (arguments.markdown or arguments.html or arguments.keep):
        print(text.encode('utf-8', 'backslashreplace').decode(), end='')


def gather(paths: Sequence[str], curves: bool = False) -> list[Run]:
    """Reads the runs in the folders, in the given order and each once. Warns on stderr about each one left out.

    Args:
      paths: folders.
      curves: whether a run that is not evaluated counts too, if it has metrics.
    """
    runs: list[Run] = []
    seen: set[pathlib.Path] = set()
    for path in map(path_of, paths):
        reason = 'it is named already' if path.resolve() in seen else missing(path, curves)
        run = None if reason else read(path, {run.name for run in runs})
        seen.add(path.resolve())
        if run and (run.evaluation or (curves and run.rows)):
            runs.append(run)
        else:
            warn(f'{path}: left out, {reason or "evaluation.json cannot be read; it may be half-written"}')
    if not runs:
        what = (
            'there is no run with an evaluation among these: name folders of evaluated runs' if paths else 'which runs?'
        )
        raise ConfigError(f'{what}, e.g. python -m genlab.results runs/dcgan')
    return runs


def missing(path: pathlib.Path, curves: bool) -> str | None:
    """Returns why a folder does not hold an evaluated run, or None if it does. curves: whether metrics are enough."""
    if not path.is_dir():
        return 'there is no such folder'
    if not (path / 'config.json').exists():
        inner = f'; there are runs in it: name {path}/*' if any(path.glob('*/config.json')) else ''
        return f'it holds no run (no config.json){inner}'
    if not (path / 'evaluation.json').exists() and not (curves and (path / 'metrics.jsonl').exists()):
        return 'it is not evaluated yet (no evaluation.json; genlab.main --mode=evaluate writes it)'
    return None
