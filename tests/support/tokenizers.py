"""Small runs of tokenizers with made-up weights, for tests of what models their codes."""

import functools
import os
import pathlib
import tempfile

import jax
import numpy as np

from genlab import data, experiment
from genlab.config import at, small
from genlab.errors import warn
from genlab.run import workdir
from genlab.run.files import write_json
from genlab.training import parallel
from genlab.training.checkpoint import Checkpoints
from genlab.training.program import make_init, programs
from support.runs import ROOT, made_up, module_of


def with_tokenizer(config):
    """Returns a config whose tokenizer is a small run of the config that `config.model.tokenizer` is named after.

    A config without a tokenizer is returned as it is."""
    if 'tokenizer' not in config.model:
        return config
    config = config.copy_and_resolve_references()
    config.model.tokenizer = config.data.dir = small_run(pathlib.Path(config.model.tokenizer).name)
    return config


@functools.cache
def small_run(name):
    """Makes a run and returns its folder. Its name is as main gives it: vq_vae-spatial is configs/vq_vae.py:spatial."""
    stem, *variants = name.split('-')
    config = small(module_of(ROOT / 'configs' / f'{stem}.py').get_config(','.join(variants)))
    config.data.batch_size = 250  # fewer calls encode thousands of scenes
    folder = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get('GENLAB_CACHE'))) / name
    folder.mkdir()
    placement = parallel.place('pmap', jax.devices()[:1])
    program = programs(config, experiment.load(config.experiment), placement)[0]
    state = made_up(make_init(program)).replace(step=np.int32(2))
    workdir.claim(folder, config)
    facts = data.missing(config.model)
    write_json(folder / workdir.FACTS, {f'model.{key}': at(program.config.model, key) for key in facts})
    with Checkpoints(folder / 'checkpoints', warn=warn) as checkpoints:
        checkpoints.save(2, parallel.replicate(placement, state), {})
    return str(folder)
