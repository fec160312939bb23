"""Compares the training loop with the bare compiled step, and many steps per call with one.

    python benchmarks/loop.py            # about 3 minutes on 2 cores

1. DCGAN on digits: the loop with data, a line of the log every 50 steps and a checkpoint every 100 steps. It is
compared
   with calls of the same compiled step on one fixed batch. Both run alternately for 100 steps. The result is the ratio
   of the medians.
2. A dense GAN on points in the plane (configs/gan.py): `steps_per_call=200` against one step per call. Both run through
   the loop with the log and checkpoints of the config, in blocks of 10,000 steps.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'configs'))  # the configs are files, not a package

import dcgan
import gan

from genlab import experiment
from genlab.run.logs import MetricLog
from genlab.run.platform import set_up_jax
from genlab.run.sinks import TensorBoard
from genlab.training import parallel
from genlab.training.checkpoint import Checkpoints
from genlab.training.loop import Loop, Stop
from genlab.training.program import programs


class Timed(Loop):
    """A loop that records the time at the end of each block of steps, and exposes its compiled call."""

    def compile(self, batch):
        calls = super().compile(batch)
        (self.call,), self.batch = calls.values(), self.placement.put(batch)
        self.marks = []
        return calls

    def between(self):
        super().between()
        if self.step % self.block == 0:
            jax.block_until_ready(self.state)
            self.marks.append(time.perf_counter())
            self.after_block()
            self.marks.append(time.perf_counter())

    def after_block(self):
        """Runs between two blocks; its time does not count."""


class AgainstBare(Timed):
    """A loop that runs a block of bare calls, on a copy of its state, after each of its own blocks."""

    bare: list = []

    def after_block(self):
        carry = jax.tree.map(jnp.copy, (self.state, self.totals))
        jax.block_until_ready(carry)
        began = time.perf_counter()
        for _ in range(self.block):
            carry = self.call(carry, self.batch, self.constants)
        jax.block_until_ready(carry)
        self.bare.append(time.perf_counter() - began)


def run(kind: type[Timed], config: ConfigDict, block: int) -> tuple[list[float], Timed]:
    """Trains with a timed loop.

    Args:
      kind: the class of the loop.
      config: of the run.
      block: steps per block.

    Returns:
      (seconds of each block without the first one, which is a warm-up; the loop).
    """
    placement = parallel.place(config.placement)
    (program,) = programs(config, experiment.load(config.experiment), placement)
    with tempfile.TemporaryDirectory() as folder, Stop() as stop:
        folder = pathlib.Path(folder)
        with (
            Checkpoints(folder / 'checkpoints', 2, warn=print) as checkpoints,
            MetricLog(folder, sinks=[TensorBoard(str(folder / 'tensorboard'))]) as log,
        ):
            loop = kind(config, program, folder, placement, checkpoints, log, stop)
            loop.block = block
            loop.run(program)
    starts, ends = loop.marks[1:-1:2], loop.marks[2::2]
    return [end - start for start, end in zip(starts, ends)], loop


def main():
    set_up_jax()  # as genlab.main does
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--blocks', type=int, default=7)
    blocks = parser.parse_args().blocks

    config = dcgan.get_config()
    config.train.update(steps=100 * (blocks + 1), log_every=50, sample_every=0, evaluate_every=0)
    config.checkpoint.every = 100
    seconds, loop = run(AgainstBare, config, 100)
    inside, bare = (100 / statistics.median(times) for times in (seconds, loop.bare[1:]))
    print(f'DCGAN digits, steps/s: loop {inside:.2f}, bare step {bare:.2f}: ratio {inside / bare:.3f}')

    speeds = {}
    for steps_per_call in (1, 200):
        config = gan.get_config()
        config.train.update(
            steps=10_000 * (blocks + 1), steps_per_call=steps_per_call, sample_every=0, evaluate_every=0
        )
        seconds, _ = run(Timed, config, 10_000)
        speeds[steps_per_call] = 10_000 / statistics.median(seconds)
    one, many = speeds[1], speeds[200]
    print(
        f'dense GAN on 2-D points, steps/s: 1 step per call {one:.0f}, 200 steps per call {many:.0f}: '
        f'ratio {many / one:.2f}'
    )


if __name__ == '__main__':
    main()
