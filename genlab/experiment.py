"""The contract between an experiment and everything that trains, samples, evaluates or describes it."""

import importlib
import pkgutil
from typing import Any, Callable, NamedTuple

from genlab.errors import ConfigError


class Experiment(NamedTuple):
    """All that the loop and the tools know of a model. `experiments/*.py` each have a `build(config, axis=None)` that makes one.

    A prepared batch is a dict of arrays [B, ...]: `x` is what is modelled (float32: images [B, H, W, C] in [-1, 1], or points
    [B, D]), `position` the place in the global batch; labels, captions, boxes ... are there if the source has them.
    `variables` are `State.variables()`; keys [N] are one typed key per example."""
    init: Callable                        # (batch, key) -> State
    step: Callable                        # (state, batches with leaves [turns, B, ...], key) -> (state, {name: scalar})
    sample: Callable                      # (variables, keys [N], condition) -> images or points [N, ...]
    measure: Callable | None = None       # (variables, batch, keys [B]) -> {name: [B]}, numbers on held-out examples
    encode: Callable | None = None        # (variables, batch) -> codes [B, ...]
    decode: Callable | None = None        # (variables, codes [B, ...]) -> images or points [B, ...]
    batches: int = 1                      # the batches that one step reads


def load(name: str) -> Callable[..., Experiment]:
    """`build` of experiments/<name>.py."""
    try:
        return importlib.import_module(f'experiments.{name}').build
    except ModuleNotFoundError as error:
        if error.name != f'experiments.{name}':
            raise
        import experiments
        known = sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))
        raise ConfigError(f'config.experiment={name!r}: there is no experiments/{name}.py; there are {", ".join(known)}') from None


Build = Callable[[Any, str | None], Experiment]
