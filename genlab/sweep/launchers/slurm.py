"""Trials as an array job of Slurm. The batch script requeues itself; the sweep only watches."""

import pathlib
import re
import shlex
import sys
from collections.abc import Sequence

from genlab.errors import UserError
from genlab.run.files import write_text
from genlab.sweep import attempts
from genlab.sweep.launchers import Job, Status, call
from genlab.sweep.trials import port, together

NEEDS = 'run the sweep where Slurm is installed'
WARNING = 120  # seconds before the time limit, in which a run saves
# Polls in a row. A task that is requeued leaves the queue for a moment, and a shared file system shows its code late.
LOST = 3

# Slurm signals the shell of a task too: its trap keeps it until it has written the code of the process.
SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}%{parallel}
#SBATCH --ntasks={processes}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={logs}/%a.log
#SBATCH --signal=TERM@{warning}
{options}
# Each task is one trial. It is requeued where genlab.sweep.attempts says "again", and not after scancel.
stopping=
trap 'stopping=1' TERM
cd {here} || exit 1
case "$SLURM_ARRAY_TASK_ID" in
{cases}
esac
mkdir -p "$trial" && rm -f "$trial"/code.*
{coordinator}srun --ntasks={processes} --kill-on-bad-exit=0 bash -c '
  trap : TERM; trial=$1; shift; "$@"{number}; echo $? > "$trial/code.$SLURM_PROCID"' bash "$trial" "${{command[@]}}"
codes=()
for number in {numbers}; do
  codes+=("$(cat "$trial/code.$number" 2> /dev/null || echo 137)")  # a task that left no code was killed
done
{python} -m genlab.sweep.attempts "$trial" {retries} "${{codes[@]}}"
verdict=$?
if [ "$verdict" -eq {again} ] && [ -z "$stopping" ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$verdict"
"""


class Slurm:
    """Submits one array job of all trials, at most `parallel` at a time.

    Args:
      folder: of the sweep, on a file system that all nodes share. The script and its logs are kept in slurm/ there.
      parallel: the number of trials at a time.
      retries: crashes after which a trial is tried again. Slurm delays a requeued job by itself.
      options: of sbatch, such as '--partition=gpu --time=4:00:00 --gres=gpu:1'.
    """

    interval = 10.0

    def __init__(self, folder: pathlib.Path, parallel: int, retries: int, options: str = ''):
        self._folder, self._parallel, self._retries = folder, parallel, retries
        self._options = shlex.split(options)
        self._jobs: list[Job] = []
        self._array = ''
        self._absent: dict[str, int] = {}  # id -> polls in a row in which its task was not in the queue
        self._stopped = False

    def render(self, jobs: Sequence[Job]) -> str:
        """Returns the batch script."""
        processes = len(jobs[0].commands)
        coordinator, number = '', ''
        if processes > 1:
            coordinator = (
                'host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\n'
                'command=("${command[@]/#--coordinator=localhost:/--coordinator=$host:}")\n'
            )
            number = ' --process_id="$SLURM_PROCID"'
        return SCRIPT.format(
            name=re.sub(r'[^\w.-]', '-', self._folder.name),
            last=len(jobs) - 1,
            parallel=self._parallel,
            processes=processes,
            logs=self._folder.absolute() / 'slurm',
            warning=WARNING,
            options=''.join(f'#SBATCH {option}\n' for option in self._options),
            here=shlex.quote(str(pathlib.Path.cwd())),
            cases='\n'.join(f'{number}) {_case(job)} ;;' for number, job in enumerate(jobs)),
            coordinator=coordinator,
            number=number,
            numbers=' '.join(map(str, range(processes))),
            python=shlex.quote(sys.executable),
            retries=self._retries,
            again=attempts.PREEMPTED,
        )

    def submit(self, jobs: Sequence[Job]) -> None:
        """Writes the script and submits it."""
        self._jobs = list(jobs)
        for job in jobs:
            attempts.begin(job.folder)
        script = self._folder / 'slurm' / 'array.sh'
        write_text(script, self.render(jobs))
        self._array = call(['sbatch', '--parsable', str(script)], NEEDS).strip().partition(';')[0]

    def poll(self) -> dict[str, Status]:
        """Asks the queue for tasks that wait or run; the folders of the trials tell how the others ended."""
        queued = self._queued()
        return {job.id: self._status(job, queued.get(str(number))) for number, job in enumerate(self._jobs)}

    def cancel(self) -> None:
        """Cancels the array job: Slurm sends SIGTERM, and kills what has not ended after its KillWait."""
        self._stopped = True
        call(['scancel', self._array], NEEDS)

    def _queued(self) -> dict[str, str]:
        """Returns index -> Slurm's state of the tasks in the queue."""
        try:
            lines = call(['squeue', '--noheader', '--array', f'--jobs={self._array}', '--format=%K %T'], NEEDS)
        except UserError as error:
            if 'Invalid job id' not in str(error):  # all tasks have left the queue
                raise
            return {}
        return dict(line.split()[:2] for line in lines.splitlines() if len(line.split()) > 1)

    def _status(self, job: Job, queued: str | None) -> Status:
        start, past = attempts.history(job.folder)
        verdict = attempts.judge(past, start, self._retries, 0.0) if past else attempts.Verdict('again')
        if verdict.state != 'again':
            return Status(verdict.state, verdict.reason)
        if queued:
            self._absent[job.id] = 0
            running = queued in ('RUNNING', 'COMPLETING', 'STAGE_OUT')
            return Status('running' if running else 'waiting', '' if running else verdict.reason)
        if self._stopped:
            return Status('stopped')
        self._absent[job.id] = self._absent.get(job.id, 0) + 1
        if self._absent[job.id] < LOST:
            return Status('waiting', verdict.reason)
        return Status('failed', 'it left the queue without an exit code')


def _case(job: Job) -> str:
    """Returns the shell words that set the folder and the command of one trial, without its process number."""
    command = job.commands[0]
    words = ['env', *(f'{name}={value}' for name, value in command.environment.items()), *command.words]
    if len(job.commands) > 1:
        words = [*words[:-3], *together('localhost', port(job.id), len(job.commands), '0')[:2]]
    return f'trial={shlex.quote(str(job.folder.absolute()))}; command=({shlex.join(words)})'
