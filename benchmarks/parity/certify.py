"""Certificates of parity: what was compared with which version of a peer, and when; and the pages that show them.

    python -m benchmarks.parity.certify [RECORD=FOLDER ...] [--full]

runs the script of each named record with the folder of its peer, and then writes docs/parity.md and the table of
docs/guide/published.md from all certificates. Without names it only writes the pages. A certificate is a JSON file in
benchmarks/parity/certificates/, with an entry for the tiny networks and one for the published size. Each is written by
one run of one script with --certify, so one peer is renewed without the others.

This module needs no torch. The tests compare the pages with the certificates.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from genlab import published
from genlab.published.recorded import TOLERANCE

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'benchmarks/parity/certificates'
PAGE, GUIDE = ROOT / 'docs/parity.md', ROOT / 'docs/guide/published.md'
MARKS = '<!-- made by benchmarks.parity.certify -->\n', '<!-- end -->\n'  # around the table in the guide
SIZES = ('tiny', 'full')
CODE = ('networks', 'models', 'diffusion', 'losses', 'training')  # folders of genlab/ that determine the figures
ROUNDING = 1e-8  # a gradient below this share of the largest one of its tensor has a sign that rounding may change
SCRIPTS = {'pytorch_dcgan': 'dcgan'}  # record -> its script, where the names differ
# Record -> why its step of training was not compared.
NO_STEP = {
    'kl_f8': "not compared: the peer's loss has a perceptual network and a discriminator, ours has neither",
    'diffusers_vae': 'none: the peer has no training of it',
    'taming_vqgan': "not compared: the peer's loss needs the weights of a perceptual network",
    'pclucas14_pixelcnn_pp': 'differs: transposed convolutions have other parameters for the same kernels',
}
FIGURES = {
    'forward': 'outputs',
    'gradient': 'input gradients',
    'gradient64': 'input gradients in float64',
    'trajectory': 'trajectory',
    'update': 'change by a step',
    'left_out': 'parameters left out',
}
HEAD = """# Parity with the peers

Each row is a comparison of a network of a peer, with random weights, with ours after a conversion by its record
([docs/guide/published.md](guide/published.md)). `python -m benchmarks.parity.certify` writes this page from the
certificates in `benchmarks/parity/certificates/`. The scripts of `benchmarks/parity/` write those with `--certify`
(extra `parity`), one peer at a time.

All figures are the largest difference, relative to the largest value; {tolerance} or more stops a script.

- **Input gradients**: of a random projection of the outputs. In a large network some units are within rounding of the
  kink of their rectifier, where the slope jumps. Gradients that differ in float32 are then compared in float64; that
  figure counts. It is then far below the rounding of float32, so rounding was the cause.
- **Trajectory**: samples after a few steps of a solver from the same noise.
- **Step**: the change of all parameters by one training step with the same data, noise and times, relative to the
  largest change. Adam's first step takes only the sign of a gradient. So both sides compute in float64, and parameters
  whose gradient is below {rounding} of the largest one of their tensor are left out; "left out" is their share.
- **In float64** means all of it: a script stops if any operation of either side has a narrower real result.
- **Ours** is the last commit that changed {code} of `genlab/`
  before the script ran; a + would mean changes that are in no commit.
"""


def load() -> dict[str, dict[str, Any]]:
    """Returns the certificates: record -> size -> run."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob('*.json'))}


def store(record: str, size: str, run: Mapping[str, Any]) -> None:
    """Writes a run into the certificate of a record, and keeps the run of the other size."""
    path = FOLDER / f'{record}.json'
    known = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(known | {size: run}, indent=2, sort_keys=True) + '\n')


def command(record: str, size: str) -> str:
    """Returns the command that writes a run."""
    script = SCRIPTS.get(record, record)
    return f'python -m benchmarks.parity.{script} --source=FOLDER {"--full " if size == "full" else ""}--certify'


def page(certificates: Mapping[str, Any]) -> str:
    """Returns docs/parity.md."""
    figures = ['outputs', 'input gradients', 'in float64', 'trajectory', 'step', 'left out']
    versions = ['record', 'size', 'networks', 'parameters', 'peer', 'ours', 'date', 'Python', 'torch', 'JAX', 'command']
    return '\n'.join(
        (
            HEAD.format(tolerance=_short(TOLERANCE), rounding=_short(ROUNDING), code=', '.join(CODE)),
            '## Differences\n',
            *_table(['record', 'size', 'compared', *figures], _differences(certificates)),
            '\n## Runs\n',
            *_table(versions, _runs(certificates)),
            '',
        )
    )


def _differences(certificates: Mapping[str, Any]) -> Iterator[list[str]]:
    for record, size, run in _all(certificates):
        for one in run['compared'] if run else ():
            yield [f'`{record}`', size, one['what'], *(_short(one.get(name)) for name in FIGURES)]


def _runs(certificates: Mapping[str, Any]) -> Iterator[list[str]]:
    for record, size, run in _all(certificates):
        if not run:
            yield [f'`{record}`', size, 'not run', *('',) * 7, f'`{command(record, size)}`']
            continue
        networks = run['size'] + (f'; {run["reference"]}' if 'reference' in run else '')
        source = f'{published.record(record).source}, {run["peer"]}'
        packages = [run['versions'][name] for name in ('python', 'torch', 'jax')]
        numbers = [f'{run["parameters"]:,}', source, run['genlab'], run['date'], *packages]
        flags = f'XLA_FLAGS={run["flags"]} ' if 'flags' in run else ''
        yield [f'`{record}`', size, networks, *numbers, f'`{flags}{command(record, size)}`']


def _all(certificates: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for record in published.RECORDS:
        for size in SIZES:
            yield record, size, certificates.get(record, {}).get(size)


def ladder(certificates: Mapping[str, Any]) -> str:
    """Returns the table of the guide: what was verified of each record, and nothing that no certificate shows."""
    head = ['record', 'configuration', 'equal on tiny random weights', 'equal at full size on random weights']
    rows = []
    for record in published.RECORDS:
        runs = certificates.get(record, {})
        read = 'translated' if published.record(record).translate else 'not read; shapes are compared'
        steps = {
            one['what']: f'{one["what"]}: {_short(one["update"])}'
            for size in SIZES
            for one in runs.get(size, {}).get('compared', ())
            if 'update' in one
        }
        updated = '; '.join(steps.values()) or NO_STEP.get(record, 'not run')
        rows.append([f'`{record}`', read, *(_verdict(runs.get(size)) for size in SIZES), 'no file at hand', updated])
    return '\n'.join(_table([*head, 'a real file loaded', 'an update step equal'], rows)) + '\n'


def _verdict(run: Any) -> str:
    """Returns the largest figure of a run that counts, or 'not run'."""
    if not run:
        return 'not run'
    figures = [
        one.get('gradient64', one.get('gradient', 0.0)) if name == 'gradient' else one.get(name, 0.0)
        for one in run['compared']
        for name in ('forward', 'gradient', 'trajectory')
    ]
    return f'yes, {_short(max(figures))} ({run["size"]})'


def _table(head: list[str], rows: Any) -> Iterator[str]:
    for row in (head, ['---'] * len(head), *rows):
        yield f'| {" | ".join(row)} |'


def _short(figure: float | None) -> str:
    """Returns a number as 2e-7, 0 as 0."""
    return '' if figure is None else f'{figure:.0e}'.replace('e-0', 'e-') if figure else '0'


def with_ladder(text: str, certificates: Mapping[str, Any]) -> str:
    """Returns the text of the guide with the table between its marks made again."""
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + ladder(certificates) + MARKS[1] + rest.split(MARKS[1])[1]


def main() -> None:
    """Runs the scripts of the named records, and writes both pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'peers', nargs='*', metavar='RECORD=FOLDER', help='records to renew, with the folders of the peers'
    )
    parser.add_argument('--full', action='store_true', help='the published sizes instead of tiny networks')
    options = parser.parse_args()
    failed = []
    for name in options.peers:
        record, _, folder = name.partition('=')
        if record not in published.RECORDS or not folder:
            parser.error(f'{name}: give RECORD=FOLDER, with a record of {", ".join(published.RECORDS)}')
        words = command(record, 'full' if options.full else 'tiny').replace('FOLDER', folder).split(' ')
        if subprocess.run([sys.executable, *words[1:]], cwd=ROOT).returncode:
            failed.append(record)
    certificates = load()
    PAGE.write_text(page(certificates))
    GUIDE.write_text(with_ladder(GUIDE.read_text(), certificates))
    if failed:
        raise SystemExit(f'no new certificate of {", ".join(failed)}: see the messages above')


if __name__ == '__main__':
    main()
