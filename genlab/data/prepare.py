"""python -m genlab.data.prepare NAME --dir DIR: downloads a TFDS set and writes it as ArrayRecord.

The builders of TFDS need TensorFlow to write a set: pip install "genlab[prepare]". Reading does not need it.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

from genlab.data.sources import tfds
from genlab.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Parses the arguments and prepares the set; returns the exit code."""
    parser = argparse.ArgumentParser(prog='python -m genlab.data.prepare', description=(__doc__ or '').splitlines()[0])
    parser.add_argument('name', help='as TFDS writes it: mnist, cifar10, celeb_a, oxford_flowers102, ...')
    parser.add_argument('--dir', default='', help="where to write it, config.data.dir later (default: TFDS's own)")
    parser.add_argument('--manual', default='', help='folder of files downloaded by hand, for sets that need them')
    options = parser.parse_args(arguments)
    try:
        print(prepared(options.name, options.dir, options.manual))
    except UserError as error:
        print(f'genlab: {error}', file=sys.stderr)
        return error.exit_code
    return 0


def prepared(name: str, folder: str, manual: str = '') -> str:
    """Downloads and writes a set unless it exists.

    Args:
        name: the TFDS name.
        folder: where to write; '' takes the default of TFDS.
        manual: folder of files downloaded by hand; '' for none.

    Returns:
        One line that lists the splits.
    """
    if importlib.util.find_spec('tensorflow') is None:
        raise UserError('preparing a set needs TensorFlow, which reading does not: pip install "genlab[prepare]"')
    builder, form = tfds.find(name, folder)
    if form not in ('', 'array_record'):
        raise UserError(f'{name} in {builder.data_dir} is in {form} format already: give another folder by --dir')
    if not form:
        builder = _write(name, folder, manual)
    splits = ', '.join(f'{split} {info.num_examples}' for split, info in builder.info.splits.items())
    return f'{builder.info.full_name} in {builder.data_dir}: {splits}'


def _write(name: str, folder: str, manual: str) -> Any:
    """Runs the builder of TFDS and returns it; any failure becomes a one-line UserError. Arguments: see `prepared`."""
    import tensorflow_datasets

    where = {'data_dir': folder} if folder else {}
    config = tensorflow_datasets.download.DownloadConfig(**({'manual_dir': manual} if manual else {}))
    try:
        builder = tensorflow_datasets.builder(name, file_format='array_record', **where)
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # TFDS, the network and each builder raise different types
        reason = ' '.join(str(error).split())[:300]
        raise UserError(
            f'{name} could not be prepared ({type(error).__name__}: {reason}): put that right and run '
            'the same command again'
        ) from error
    return builder


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
