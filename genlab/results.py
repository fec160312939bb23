"""Results: one page over runs, in Markdown and in HTML, made from the files in their workdirs and from nothing else.

    python -m genlab.results runs/dcgan runs/dcgan-mnist --markdown docs/RESULTS.md --pictures docs/results

There is a table of all runs (system, data, parameters, steps, minutes, device, command) and one for each part of their
evaluations. Figures carry the id of the protocol that they were measured with: they compare only if the ids are equal,
and the best of those is bold. Without --markdown and --html the Markdown is printed.

Exit codes: 0 done; 1 a file cannot be written; 2 there is no run with an evaluation among those named.
"""

import argparse
import os
import pathlib
import sys

from genlab.errors import ConfigError, UserError, warn
from genlab.reporting.comparison_page import html, markdown
from genlab.reporting.comparison_pictures import pictures, save
from genlab.reporting.comparison_tables import Run, overview, part_tables, read
from genlab.run import command
from genlab.run.files import write_atomically


def main(words=None):
    """Parses and makes the page; what is wrong becomes one line and an exit code. words: as on the command line."""
    words = sys.argv[1:] if words is None else words
    arguments = parser().parse_args(words)
    try:
        make(arguments, command.typed('genlab.results', words))
    except (UserError, OSError) as error:
        print(f'genlab: {" ".join(str(error).split())}', file=sys.stderr)
        sys.exit(getattr(error, 'exit_code', 1))


def parser():
    first, _, rest = __doc__.partition('\n')
    known = argparse.ArgumentParser(
        'python -m genlab.results', description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known.add_argument('runs', nargs='*', metavar='RUN', help='the workdir of a run that was evaluated')
    known.add_argument('--markdown', metavar='FILE', help='write Markdown there')
    known.add_argument('--html', metavar='FILE', help='write one HTML file that holds everything, pictures too')
    known.add_argument(
        '--pictures',
        metavar='FOLDER',
        help='put small copies of the newest samples and of evaluation/*.png there; the Markdown shows them',
    )
    return known


def make(arguments, made_by):
    """Writes what was asked for. made_by: the command, which the page names."""
    runs = gather(arguments.runs)
    tables = [overview(runs), *part_tables(runs)]
    shown = {run.name: pictures(run) for run in runs} if arguments.pictures or arguments.html else {}
    base = os.path.dirname(os.path.abspath(arguments.markdown)) if arguments.markdown else os.getcwd()
    links = save(shown, arguments.pictures, base) if arguments.pictures else {}
    if arguments.markdown:
        write_atomically(arguments.markdown, markdown(runs, tables, links, made_by).encode())
    if arguments.html:
        write_atomically(arguments.html, html(runs, tables, shown, made_by).encode())
    for path in filter(None, (arguments.markdown, arguments.html)):
        print(f'{path}: {len(runs)} run{"s" if len(runs) > 1 else ""}')
    if not arguments.markdown and not arguments.html:
        print(markdown(runs, tables, links, made_by), end='')


def gather(paths) -> list[Run]:
    """The runs in the folders, each once, in their order; a line on stderr for each that is left out."""
    runs, seen = [], set()
    for path in map(pathlib.Path, paths):
        reason = 'it is named already' if path.resolve() in seen else missing(path)
        run = None if reason else read(path, {run.name for run in runs})
        seen.add(path.resolve())
        if run and run.evaluation:
            runs.append(run)
        else:
            warn(f'{path}: left out, {reason or "evaluation.json cannot be read; it may be half-written"}')
    if not runs:
        what = 'there is no run with an evaluation among these: name the workdirs of some' if paths else 'which runs?'
        raise ConfigError(f'{what}, e.g. python -m genlab.results runs/dcgan')
    return runs


def missing(path) -> str | None:
    """Why a folder is no run with figures, or None."""
    if not path.is_dir():
        return 'there is no such folder'
    if not (path / 'config.json').exists():
        return 'it holds no run (no config.json)'
    if not (path / 'evaluation.json').exists():
        return 'it is not evaluated yet (no evaluation.json; genlab.main --mode=evaluate writes it)'
    return None


if __name__ == '__main__':
    main()
