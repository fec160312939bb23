"""A research codebase for generative models. `load` opens a trained run; everything else is in the modules."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from genlab.api import Run

__version__ = '0.1.0'


def load(folder: 'str | os.PathLike[str]', checkpoint: 'str | int' = 'newest') -> 'Run':
    """Loads a run onto one device; see `genlab.api`.

    JAX is imported here, so that `import genlab` alone is cheap.

    Args:
      folder: folder of the run, such as 'runs/dcgan'.
      checkpoint: 'newest', 'best' or a step.

    Raises:
      ConfigError: there is no run in the folder, or no such checkpoint.
      UserError: the run has no checkpoint, or it cannot be read.
    """
    from genlab import api

    return api.load(folder, checkpoint)
