"""Reads the table of labels and captions at the top of a folder of images: labels.csv or captions.tsv.

A table is UTF-8, UTF-16 with its byte order mark, or else Windows-1252, which a line on stderr mentions. Names of
columns may have capitals. Blanks around names and values are dropped. Paths may have backslashes. Anything that could
be misread is refused with the line.
"""

import codecs
import csv
import io
import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from genlab.data.sources.messages import printable, say
from genlab.errors import ConfigError

TABLES = {'labels.csv': ',', 'captions.tsv': '\t'}
COLUMNS = ('file', 'label', 'caption')


def read(root: Path, files: Collection[str]) -> dict[str, dict[str, str]]:
    """Returns {file: {column: value}} of the table at the top of a folder, empty if there is none.

    Args:
        root: the folder.
        files: paths of its images from the root.

    Raises:
        ConfigError: a table that cannot be read without doubt; the message gives its path and the line.
    """
    for name, delimiter in TABLES.items():
        path = root / name
        if not os.path.lexists(path):
            continue
        if not path.is_file():
            raise ConfigError(f'{shown(path)} is not a regular file: replace it by a table, or remove it')
        return _rows(path, _text(path), delimiter, set(files))
    return {}


def shown(path: Path) -> str:
    """Formats a path for messages."""
    return printable(str(path))


def cells_of(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the line and the cells of each row of a table that is not blank, without blanks around the cells.

    Args:
        path: path of the table, for messages.
        text: its contents.
        delimiter: delimiter of the columns.

    Raises:
        ConfigError: a quote is not closed or is within a cell.
    """
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ConfigError(f'{shown(path)}, line {reader.line_num}: {error}: put the quotes right') from None


def _text(path: Path) -> str:
    """Decodes a table."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f'{shown(path)} cannot be read: {error.strerror}') from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode('utf-16' if wide else 'utf-8-sig')
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b'\n') + 1
        if wide:
            raise ConfigError(f'{shown(path)}, line {line}: this is not UTF-16: save the table as UTF-8') from None
        try:
            text = data.decode('cp1252')
        except UnicodeDecodeError:
            raise ConfigError(
                f'{shown(path)}, line {line}: this is neither UTF-8 nor Windows-1252: save the table as UTF-8'
            ) from None
        say(f'warning: {shown(path)}, line {line}: read as Windows-1252, because it is not UTF-8')
    if '\0' in text:
        line = text[: text.index('\0')].count('\n') + 1
        raise ConfigError(f'{shown(path)}, line {line}: there is a zero byte: save the table as UTF-8')
    return text


def _rows(path: Path, text: str, delimiter: str, files: set[str]) -> dict[str, dict[str, str]]:
    """Parses a table.

    Args:
        path: path of the table, for messages.
        text: its contents.
        delimiter: delimiter of the columns.
        files: the paths of images.

    Returns:
        {file: {column: value}}.
    """
    columns: list[str] = []
    table: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    for line, cells in cells_of(path, text, delimiter):
        if not columns:
            columns = _columns(path, cells, delimiter)
            continue
        where = f'{shown(path)}, line {line}'
        while len(cells) > len(columns) and not cells[-1]:
            cells.pop()
        if len(cells) != len(columns):
            raise ConfigError(
                f'{where}: {len(cells)} columns, and the first line names {len(columns)}: '
                'complete the line, and quote a value that holds the separator'
            )
        row = {name: cell for name, cell in zip(columns, cells) if name in COLUMNS}
        if not row['file']:
            raise ConfigError(f'{where}: the column file is empty: name an image')
        row['file'] = file = _file(row['file'], files)
        if table.setdefault(file, row) != row:
            raise ConfigError(f'{where}: {file} has other values in line {lines[file]}: keep one of them')
        lines.setdefault(file, line)
    if not columns:
        _columns(path, [], delimiter)
    return table


def _columns(path: Path, cells: list[str], delimiter: str) -> list[str]:
    """Returns the names of the columns in lower case."""
    columns = [cell.casefold() for cell in cells]
    while columns and not columns[-1]:
        columns.pop()
    if 'file' not in columns or not {'label', 'caption'} & {*columns}:
        raise ConfigError(
            f'{shown(path)} has the columns {", ".join(cells) or "none"}: it needs file, and label or caption or both, '
            f'separated by {"a tab" if delimiter != "," else "a comma"}; or move it elsewhere'
        )
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if twice:
        raise ConfigError(f'{shown(path)} has the column {twice[0]} more than once: keep one of them')
    return columns


def _file(name: str, files: set[str]) -> str:
    """Returns the path of an image as `files` has it; backslashes separate folders unless a file is named so."""
    path = PurePosixPath(name).as_posix()
    return path if path in files else PurePosixPath(name.replace('\\', '/')).as_posix()
