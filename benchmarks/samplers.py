"""Evaluates one trained diffusion model with every sampler at 10, 20 and 50 network evaluations per sample.

A sampler with two evaluations per step takes half the steps. The figures come from the evaluator, for `--count`
samples. A one-step model has a single sampler; use fewer evaluations for it.

    python -m benchmarks.samplers --workdir=runs/ddpm --count=1000
    python -m benchmarks.samplers --workdir=runs/meanflow --count=1000 --evaluations 1 2 4 32
"""

import argparse
import json
import pathlib
import time
from collections.abc import Mapping

from ml_collections import ConfigDict

from genlab.choices import named

# The settings of each sampler, with the grid of times that suits it.
CONTENDERS = {
    'ancestral, small': dict(sampler=named('ancestral', variance='small')),
    'ancestral, large': dict(sampler=named('ancestral', variance='large')),
    'DDIM': dict(sampler=named('ddim')),
    'DDIM, eta 1': dict(sampler=named('ddim', eta=1.0)),
    'DDIM, quadratic times': dict(sampler=named('ddim'), grid=named('quadratic')),
    'Euler': dict(sampler=named('euler')),
    'Heun, even times': dict(sampler=named('heun')),
    'Heun of EDM': dict(sampler=named('heun'), process='ve', grid=named('karras')),
    'DPM-Solver++ 2M': dict(sampler=named('dpm_solver'), grid=named('even_log_snr', lowest=0.01)),
    'DPM-Solver++ 2M SDE': dict(sampler=named('dpm_solver', stochastic=True), grid=named('even_log_snr', lowest=0.01)),
    'Euler-Maruyama': dict(sampler=named('euler_maruyama', diffusion='sigma')),
    'predictor-corrector': dict(sampler=named('predictor_corrector')),
}
TWICE = ('heun', 'predictor_corrector')  # samplers with two evaluations per step
FIGURES = ('frechet_distance', 'precision', 'recall', 'condition_accuracy')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--workdir', type=pathlib.Path, required=True, help='the folder of a run')
    parser.add_argument('--evaluations', type=int, nargs='+', default=(10, 20, 50))
    parser.add_argument('--count', type=int, default=1000, help='samples per row of the table')
    parser.add_argument('--only', default='', help='prefix of the names of samplers')
    parser.add_argument('--unguided', action='store_true', help='sample without guidance, with random classes')
    options = parser.parse_args()
    unguided = {'guidance': 1.0, 'condition': False} if options.unguided else {}
    from genlab.run.platform import set_up_jax

    set_up_jax()
    print(
        '| sampler | evaluations | ' + ' | '.join(FIGURES) + ' | samples/s |\n|---|---|' + '---|' * (len(FIGURES) + 1)
    )
    for name, changes in contenders(options.workdir).items():
        for evaluations in options.evaluations:
            if name.startswith(options.only):
                figures, rate = judge(options.workdir, changes | unguided, evaluations, options.count)
                found = [figures.get(figure) for figure in FIGURES]
                cells = ' | '.join(f'{value:.3f}' if isinstance(value, float) else '' for value in found)
                print(f'| {name} | {evaluations} | {cells} | {rate:.0f} |', flush=True)


def contenders(workdir: pathlib.Path) -> Mapping[str, dict]:
    """Returns name -> changes of config.sample, for the samplers of the run's model."""
    return CONTENDERS if 'sampler' in read(workdir).sample else {'its own': {}}


def read(workdir: pathlib.Path) -> ConfigDict:
    """Reads the config of a run."""
    return ConfigDict(json.loads((workdir / 'config.json').read_text()))


def judge(workdir: pathlib.Path, changes: dict, evaluations: int, count: int) -> tuple[dict, float]:
    """Evaluates the newest checkpoint of a run.

    Args:
      workdir: of the run.
      changes: of config.sample.
      evaluations: network evaluations per sample.
      count: number of samples.

    Returns:
      (the figures of sample quality, samples per second without compilation).
    """
    from genlab import evaluation, experiment, modes
    from genlab.sampling import drawing

    config = read(workdir)
    standard = {'grid': named('even'), 'process': ''} if 'sampler' in changes else {}
    config.sample.update(standard | changes)
    config.sample.steps = evaluations // 2 if changes and changes['sampler'].name in TWICE else evaluations
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
