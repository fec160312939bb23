"""How often the training of a run continued after a stop, and the steps that it lost."""

import contextlib
import json
import pathlib

from genlab.run.files import write_json

RESTARTS = 'restarts.json'  # in the folder of a run


def read(path: pathlib.Path) -> tuple[int, int]:
    """Returns (restarts, lost steps) of the run in a folder. Lost are steps that were done again."""
    try:
        content = json.loads((path / RESTARTS).read_text())
        return int(content['restarts']), int(content['lost_steps'])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0


def note(path: pathlib.Path, lost: int) -> None:
    """Adds a restart to the record of a run; a disk that is full does not stop it.

    Args:
      path: the folder.
      lost: the steps between the checkpoint and the last line of the log before the stop.
    """
    restarts, before = read(path)
    with contextlib.suppress(OSError):
        write_json(path / RESTARTS, {'restarts': restarts + 1, 'lost_steps': before + lost})
