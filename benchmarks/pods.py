"""Compiles training steps of large models for slices of TPUs, and writes docs/guide/slices_plan.md. It needs no TPUs.

The page has the memory, arithmetic, traffic and collectives of a chip, the least time of a step, and how they grow from
1 to 256 chips with the same number of examples per chip. It needs the extra "tpu", and minutes of one core per row.

    python -m benchmarks.pods

Each row is compiled by a process of its own. Rows are kept in docs/results/pods.json: the same command compiles what is
missing, and `--again` all of them.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
RESULTS, PAGE = ROOT / 'docs/results/pods.json', ROOT / 'docs/guide/slices_plan.md'


@dataclasses.dataclass(frozen=True)
class Model:
    """A config at a published size, with the examples that a chip takes."""

    title: str
    config: str
    examples: int  # per chip
    arguments: tuple[str, ...] = ()
    note: str = ''  # below its table


PIXELS = ('--config.data.binarise=False', '--config.data.resolution=16')  # 256 levels
MODELS = {
    'gpt': Model(
        'GPT of 48 layers, width 1536, 24 heads, over the 256 pixels of 16x16 images',
        'configs/pixelcnn.py:transformer',
        1,
        (
            '--config.model.network.depth=48',
            '--config.model.network.width=1536',
            '--config.model.network.heads=24',
            *PIXELS,
        ),
    ),
    'dit': Model('DiT-XL/2 over the codes of KL-f8, 256x256 images', 'configs/dit.py:xl2', 1),
    'stylegan2': Model(
        'StyleGAN2 at 1024x1024, configuration F',
        'configs/stylegan2.py:ffhq1024',
        1,
        note=(
            'The largest arrays are float32 [1, 1024, 1024, 32]. In the program for v5p, most of them have the '
            'channels as their last axis, which a TPU pads from 32 to 128: 512 MiB in place of 128. '
            '`config.model.networks.remat=True` recomputes the layers of each resolution for gradients, and '
            '`config.model.dtype=bfloat16` halves the arrays. Neither has been compiled for these slices.'
        ),
    ),
}
ROWS = [  # model, topology, further arguments
    *(('gpt', topology, '') for topology in ('v5e:1x1', 'v5e:2x2', 'v5e:4x4', 'v5e:8x8', 'v5e:16x16')),
    *(('gpt', 'v5e:16x16', f'--config.tensor={tensor}') for tensor in (4, 16)),
    ('dit', 'v5e:4x4', ''),
    ('dit', 'v5e:16x16', ''),
    ('dit', 'v4:2x2x4', ''),
    ('stylegan2', 'v5e:4x8', ''),
    ('stylegan2', 'v5p:2x2x1', ''),
]


def compiled(name: str, topology: str, more: str) -> dict:
    """Returns the plan of a model on a topology as plain values, or why there is none."""
    from genlab import experiment
    from genlab.errors import UserError
    from genlab.run.platform import set_up_jax
    from genlab.sweep import spec
    from genlab.training import plan as planning

    set_up_jax(only_compile=True)
    model = MODELS[name]
    devices = len(planning.describe_topology(topology))
    arguments = [*model.arguments, '--config.placement=fsdp', f'--config.data.batch_size={model.examples * devices}']
    arguments += more.split()
    config = spec.base_config(str(ROOT / model.config), arguments)
    row: dict = {'model': name, 'topology': topology, 'more': more, 'devices': devices, 'examples': model.examples}
    try:
        plan = planning.plan(config, experiment.load(config.experiment), topology)
    except UserError as error:
        return {**row, 'reason': str(error)}
    least = planning.estimate(plan)
    return {
        **row,
        'kind': plan.kind,
        'needed': plan.needed,
        'memory': plan.memory,
        'flops': plan.whole.flops / plan.steps if plan.whole else None,
        'accessed': plan.whole.accessed / plan.steps if plan.whole else None,
        'sent': plan.sent / plan.steps,
        'cores': plan.cores,
        'collectives': plan.collectives,
        'least': least._asdict() if least else None,
    }


def rows(again: bool) -> list[dict]:
    """Returns all rows; compiles those that are missing, one process each."""
    found = [] if again or not RESULTS.exists() else json.loads(RESULTS.read_text())
    for name, topology, more in ROWS:
        if any(key(row) == (name, topology, more) for row in found):
            continue
        words = [sys.executable, '-m', 'benchmarks.pods', f'--one={name}', f'--topology={topology}', f'--more={more}']
        process = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        if process.returncode:
            raise SystemExit(process.returncode)
        found.append(json.loads(process.stdout.splitlines()[-1]))
        RESULTS.write_text(json.dumps(found, indent=1) + '\n')
    return found


def key(row: dict) -> tuple[str, str, str]:
    """Returns what identifies a row, as in ROWS."""
    return row['model'], row['topology'], row['more']


def size(number: float) -> str:
    """Formats bytes."""
    return f'{number / 2**30:,.2f} GiB' if number >= 2**28 else f'{number / 2**20:,.1f} MiB'


def table(found: list[dict]) -> str:
    """Formats rows as a table of Markdown, per chip and step."""
    head = ['slice', 'chips', 'with', 'memory', 'TFLOP', 'traffic', 'sent', 'step at least', 'limit']
    lines = [head, ['---'] * len(head)]
    for row in found:
        cores = row.get('cores', 1)
        flags = ' '.join(f'`{word.removeprefix("--config.")}`' for word in row['more'].split())
        start = [row['topology'] + ' (of a core)' * (cores > 1), str(row['devices'] // cores), flags]
        if 'reason' in row:
            lines.append([*start, row['reason'], *[''] * 5])
            continue
        least, more = row['least'], '' if row['needed'] <= row['memory'] else ': does not fit'
        lines.append(
            [
                *start,
                f'{size(row["needed"])} of {row["memory"] / 2**30:.0f}{more}',
                f'{row["flops"] / 1e12:,.2f}' if row['flops'] else '?',
                size(row['accessed']) if row['accessed'] else '?',
                size(row['sent']),
                f'{max(least.values()) * 1e3:,.0f} ms' if least else '?',
                max(least, key=least.get) if least else '?',
            ]
        )
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def page(found: list[dict]) -> str:
    """Returns the page."""
    from genlab.sweep.plan import chips

    parts = [
        '# Plans of large models\n\n`python -m benchmarks.pods` compiles these training steps without a '
        'TPU, and writes this page. Nothing here was run on a TPU. All numbers are of one chip and one step with all '
        'its lazy terms, under `config.placement=fsdp`. Loops count with each pass, once '
        'where the program does not state how many. "Sent" is what a chip sends in '
        'collectives. The step takes at least the largest of arithmetic, traffic and sent bytes, each divided by the '
        'rate of the chip; nothing reaches that. The compiler runs at least effort, so memory of a run may differ.\n'
    ]
    for name, model in MODELS.items():
        if not (own := [row for wanted in ROWS for row in found if key(row) == wanted and wanted[0] == name]):
            continue
        command = ' '.join(['python -m genlab.main', f'--config={model.config}', '--mode=plan', *model.arguments])
        parts.append(
            f'## {model.title}\n\n{model.examples} per chip: `{command} --config.placement=fsdp '
            '--config.data.batch_size=... --topology=...`\n\n'
            + table(own)
            + '\n'
            + f'\n{model.note}\n' * bool(model.note)
        )
    parts.append('## Chips\n\n' + '\n'.join(f'- {line}' for line in chips(row.get('kind') for row in found)) + '\n')
    return '\n'.join(parts)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser('python -m benchmarks.pods', description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--again', action='store_true', help='compile all rows again')
    parser.add_argument('--one', choices=MODELS, help='print one row as JSON')
    parser.add_argument('--topology', default='v5e:4x4', help='of --one')
    parser.add_argument('--more', default='', help='of --one: further arguments of the config')
    given = parser.parse_args()
    if given.one:
        print(json.dumps(compiled(given.one, given.topology, given.more)))
        return
    PAGE.write_text(page(rows(given.again)))


if __name__ == '__main__':
    main()
