"""The loop against the bare compiled step, and many steps in one call against one.

    python benchmarks/loop.py            # about 3 minutes on 2 cores

1. DCGAN on digits: `train.Loop` with data, a line of the log every 50 steps and a checkpoint every 100, against calls of the
   same compiled step on one batch that stays where it is. The two take turns of 100 steps; the ratio is of their medians.
2. A dense GAN on points in the plane (configs/gan.py): `steps_per_call=200` against one step a call, both through the loop with
   the config's own log and checkpoints, in blocks of 10,000 steps.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'configs'))  # the configs are files, not a package

import dcgan
import gan

from genlab import experiment
from genlab.run.logs import MetricLog
from genlab.run.platform import set_up_jax
from genlab.training import parallel
from genlab.training.checkpoint import Checkpoints
from genlab.training.loop import Loop, Stop
from genlab.training.program import programs


class Timed(Loop):
    """A loop that notes when each of its blocks of steps was done, and hands its compiled call out."""

    def compile(self, batch):
        call = super().compile(batch)
        self.call, self.batch = call, self.placement.put(batch)
        self.marks = []
        return call

    def between(self):
        super().between()
        if self.step % self.block == 0:
            jax.block_until_ready(self.state)
            self.marks.append(time.perf_counter())
            self.after_block()
            self.marks.append(time.perf_counter())

    def after_block(self):
        """What happens between two blocks, outside their time."""


class AgainstBare(Timed):
    """After each block of the loop, as many bare calls on copies of what it holds."""

    bare: list = []

    def after_block(self):
        carry = jax.tree.map(jnp.copy, (self.state, self.totals))
        jax.block_until_ready(carry)
        began = time.perf_counter()
        for _ in range(self.block):
            carry = self.call(carry, self.batch, self.constants)
        jax.block_until_ready(carry)
        self.bare.append(time.perf_counter() - began)


def run(kind, config, block):
    """Seconds of each block of steps in the loop, the first (warm-up) left out; and the loop."""
    placement = parallel.place(config.placement)
    (program,) = programs(config, experiment.load(config.experiment), placement)
    with tempfile.TemporaryDirectory() as folder, Stop() as stop:
        folder = pathlib.Path(folder)
        with Checkpoints(folder / 'checkpoints', 2, warn=print) as checkpoints, MetricLog(folder) as log:
            loop = kind(config, folder, placement, checkpoints, log, stop)
            loop.block = block
            loop.begin(program)
            loop.run(program)
    starts, ends = loop.marks[1:-1:2], loop.marks[2::2]
    return [end - start for start, end in zip(starts, ends)], loop


def main():
    set_up_jax()  # as the command does
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
        f'dense GAN on 2-D points, steps/s: 1 step a call {one:.0f}, 200 steps a call {many:.0f}: ratio {many / one:.2f}'
    )


if __name__ == '__main__':
    main()
