"""What follows from the exit codes of a trial: done, again, failed or refused. A state machine without side effects.

    python -m genlab.sweep.attempts FOLDER RETRIES CODE...

A batch script calls this after an attempt with the codes of its processes. It records the attempt in the folder of the
trial, prints what follows, and exits with 0 (done), 42 (run it again), 2 (refused) or 1 (failed).
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from genlab.errors import PREEMPTED, ConfigError
from genlab.run.files import path_of, write_json
from genlab.sweep.trials import newest

REFUSED = ConfigError.exit_code
IDLE = 3  # preemptions in a row without a new checkpoint that count as a crash
LONGEST = 300.0  # seconds between two attempts
HISTORY = 'attempts.json'  # in the folder of a trial


class Attempt(NamedTuple):
    """How one attempt at a trial ended."""

    code: int  # the worst exit code of its processes
    checkpoint: int  # the newest checkpoint after it; -1 for none


class Verdict(NamedTuple):
    """What follows from the attempts so far."""

    state: str  # 'again', 'done', 'failed' or 'refused'
    delay: float = 0.0  # seconds before the next attempt
    reason: str = ''


def worst(codes: Sequence[int]) -> int:
    """Returns the exit code that counts of several processes.

    A crash beats 42, because the loss of one process ends the others with 42. A refused config (2) beats both: it is
    the same for every attempt, and no loss of another process causes it.
    """
    return max(codes, key=lambda code: (code != 0) + (code not in (0, PREEMPTED)) + (code == REFUSED))


def judge(attempts: Sequence[Attempt], start: int, retries: int, backoff: float) -> Verdict:
    """Returns what follows from the attempts of one submission.

    Args:
      attempts: in order, at least one; only the last may end the trial.
      start: the newest checkpoint before the first attempt; -1 for none.
      retries: crashes after which a trial is tried again.
      backoff: seconds before the first retry; each later one waits twice as long, at most `LONGEST`.
    """
    crashes, idle, reached, last = 0, 0, start, attempts[-1]
    for attempt in attempts:
        idle = idle + 1 if attempt.code == PREEMPTED and attempt.checkpoint <= reached else 0
        reached = max(reached, attempt.checkpoint)
        crashed = attempt.code not in (0, PREEMPTED, REFUSED) or idle == IDLE
        crashes += crashed
        idle %= IDLE
    if last.code == 0:
        return Verdict('done')
    if last.code == REFUSED:
        return Verdict('refused', reason='its config is refused (exit code 2)')
    if not crashed:
        return Verdict('again', reason=f'preempted, saved step {reached}' if reached >= 0 else 'preempted')
    idled = f'preempted {IDLE} times in a row without a new checkpoint'
    reason = idled if last.code == PREEMPTED else f'exit code {last.code}'
    if crashes > retries:
        return Verdict('failed', reason=f'{reason}, crash {crashes} of {crashes}')
    delay = min(backoff * 2.0 ** min(crashes - 1, 20), LONGEST)
    return Verdict('again', delay, f'{reason}, crash {crashes} of {retries + 1}')


def begin(folder: pathlib.Path) -> None:
    """Starts the history of a submission."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / HISTORY, {'start': newest(folder), 'attempts': []})


def add(folder: pathlib.Path, codes: Sequence[int], retries: int, backoff: float) -> Verdict:
    """Adds an attempt to the history in the folder of a trial, and returns what follows."""
    start, attempts = history(folder)
    attempts.append(Attempt(worst(codes), newest(folder)))
    write_json(folder / HISTORY, {'start': start, 'attempts': attempts})
    return judge(attempts, start, retries, backoff)


def history(folder: pathlib.Path) -> tuple[int, list[Attempt]]:
    """Returns (newest checkpoint before, attempts) of the last submission of a trial."""
    try:
        content = json.loads((folder / HISTORY).read_text())
        return int(content['start']), [Attempt(*attempt) for attempt in content['attempts']]
    except (OSError, ValueError, KeyError, TypeError):
        return -1, []


def main(words: Sequence[str]) -> int:
    """Records an attempt; the module's docstring says how it is called."""
    folder, retries, *codes = words
    verdict = add(path_of(folder), [int(code) for code in codes], int(retries), 0.0)
    print(f'genlab: {folder}: {verdict.state}{": " * bool(verdict.reason)}{verdict.reason}')
    return {'done': 0, 'again': PREEMPTED, 'refused': REFUSED, 'failed': 1}[verdict.state]


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
