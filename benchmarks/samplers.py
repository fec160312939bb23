"""Judges one trained diffusion model under every sampler at 10, 20 and 50 evaluations of its network.

A sampler that evaluates twice a step takes half the steps. The figures are the evaluator's, of `--count` samples. A model of
one evaluation has but its own way to sample; ask it for fewer.

    python -m benchmarks.samplers --workdir=runs/ddpm --count=1000
    python -m benchmarks.samplers --workdir=runs/meanflow --count=1000 --evaluations 1 2 4 32
"""

import argparse
import json
import pathlib
import time
from collections.abc import Mapping

from ml_collections import ConfigDict

# How each is best asked: its grid of times, and what its steps cost.
CONTENDERS = {
    'ancestral, small': dict(sampler='ancestral', variance='small'),
    'ancestral, large': dict(sampler='ancestral', variance='large'),
    'DDIM': dict(sampler='ddim', eta=0.0),
    'DDIM, eta 1': dict(sampler='ddim', eta=1.0),
    'DDIM, quadratic times': dict(sampler='ddim', eta=0.0, grid='quadratic'),
    'Euler': dict(sampler='euler'),
    'Heun, even times': dict(sampler='heun'),
    'Heun of EDM': dict(sampler='heun', process='ve', grid='karras'),
    'DPM-Solver++ 2M': dict(sampler='dpm_solver', grid='even_log_snr', lowest=0.01),
    'DPM-Solver++ 2M SDE': dict(sampler='dpm_solver', grid='even_log_snr', lowest=0.01, stochastic=True),
    'Euler-Maruyama': dict(sampler='euler_maruyama', diffusion='sigma'),
    'predictor-corrector': dict(sampler='predictor_corrector'),
}
TWICE = ('heun', 'predictor_corrector')
FIGURES = ('frechet_distance', 'precision', 'recall', 'condition_accuracy')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--workdir', type=pathlib.Path, required=True, help='the folder of a run')
    parser.add_argument('--evaluations', type=int, nargs='+', default=(10, 20, 50))
    parser.add_argument('--count', type=int, default=1000, help='samples of each')
    parser.add_argument('--only', default='', help='contenders whose names begin so')
    parser.add_argument(
        '--unguided', action='store_true', help='no guidance, and random classes, where there are classes'
    )
    options = parser.parse_args()
    asked = {'guidance': 1.0, 'condition': False} if options.unguided else {}
    from genlab.run.platform import set_up_jax

    set_up_jax()
    print(
        '| sampler | evaluations | ' + ' | '.join(FIGURES) + ' | samples/s |\n|---|---|' + '---|' * (len(FIGURES) + 1)
    )
    for name, changes in contenders(options.workdir).items():
        for evaluations in options.evaluations:
            if name.startswith(options.only):
                figures, rate = judge(options.workdir, changes | asked, evaluations, options.count)
                found = [figures.get(figure) for figure in FIGURES]
                cells = ' | '.join(f'{value:.3f}' if isinstance(value, float) else '' for value in found)
                print(f'| {name} | {evaluations} | {cells} | {rate:.0f} |', flush=True)


def contenders(workdir: pathlib.Path) -> Mapping[str, dict]:
    """How the model of a run can be sampled."""
    return CONTENDERS if 'sampler' in read(workdir).sample else {'its own': {}}


def read(workdir: pathlib.Path) -> ConfigDict:
    return ConfigDict(json.loads((workdir / 'config.json').read_text()))


def judge(workdir: pathlib.Path, changes: dict, evaluations: int, count: int) -> tuple[dict, float]:
    """(the figures of quality, samples a second with compilation left out) of the newest checkpoint of a run."""
    from genlab import evaluation, experiment, modes
    from genlab.sampling import drawing

    config = read(workdir)
    standard = {'grid': 'even', 'process': ''} if 'sampler' in changes else {}
    config.sample.update(standard | changes)
    config.sample.steps = evaluations // 2 if changes.get('sampler') in TWICE else evaluations
    config.evaluate.update(count=count, parts=('quality',))
    build = experiment.load(config.experiment)
    _, state, program, placement = modes.restore(config, build, workdir)
    model = program.experiment
    variables = state.variables(averaged=True)
    for _ in range(2):  # the first one compiles
        began = time.perf_counter()
        drawing.draw(model, placement, variables, config, config.sample.chunk)
        seconds = time.perf_counter() - began
    return evaluation.evaluate(config, model, placement, state).figures, config.sample.chunk / seconds


if __name__ == '__main__':
    main()
