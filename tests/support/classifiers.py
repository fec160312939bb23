"""Classifiers of the evaluator, trained in another process: programs compiled as cheaply as here run slowly."""

import json
import os
import subprocess
import sys

import pytest

from genlab.evaluation.features import classifier
from genlab.run.workdir import plain
from support.runs import ROOT

TRAIN = """
import json, sys
from genlab.data.load import defaults
from genlab.evaluation.features import classifier
classifier.STEPS = int(sys.argv[2])
classifier.load(defaults(**json.loads(sys.argv[1])))
"""


def train(patch: pytest.MonkeyPatch, cache, config, steps: int) -> None:
    """Trains the classifier of `config.data` for `steps` steps into `cache`, and makes this process find it there."""
    patch.setenv('GENLAB_CACHE', str(cache))
    patch.setattr(classifier, 'STEPS', steps)
    environment = {**os.environ, 'XLA_FLAGS': '', 'PYTHONPATH': str(ROOT)}
    arguments = [sys.executable, '-c', TRAIN, json.dumps(plain(config.data)), str(steps)]
    subprocess.run(arguments, env=environment, check=True)
