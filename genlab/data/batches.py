"""Batches as a pure function of (seed, number): nothing to save, nothing tied to the number of processes."""

import dataclasses

import numpy as np

from genlab.data.source import Source
from genlab.errors import ConfigError

KEPT = 2  # permutations kept: a batch may straddle two epochs
READ_AHEAD = 4  # batches that grain's threads prepare ahead of the loop


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """Batch n of a source, n = 0, 1, ...: one permutation of the source per epoch, laid end to end.

    The stream's position p = n * batch_size + j is row p % length of the permutation of epoch p // length, so every
    example is seen once per epoch, a batch may straddle epochs, and no example is left out at an epoch's end.
    """

    source: Source
    batch_size: int
    seed: int
    _permutations: dict = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if self.batch_size < 1 or len(self.source) < 1:
            raise ConfigError(
                f'config.data.batch_size={self.batch_size} of {self.source.name}, which has '
                f'{len(self.source)} examples: both must be at least 1'
            )

    def __getstate__(self):
        return dict(self.__dict__, _permutations={})  # worker processes draw their own

    def __setstate__(self, state):
        self.__dict__.update(state)

    def permutation(self, epoch):
        """The order of the examples in an epoch: int64 [length]."""
        known = self._permutations.get(epoch)
        if known is None:
            known = np.random.default_rng([self.seed, epoch]).permutation(len(self.source))
            for old in list(self._permutations)[: 1 - KEPT]:
                self._permutations.pop(old, None)  # another thread may have been faster
            self._permutations[epoch] = known
        return known

    def indices(self, first, count=1):
        """The global batches first..first+count-1 as indices into the source: int64 [count, batch_size]."""
        positions = np.arange(first * self.batch_size, (first + count) * self.batch_size)
        epochs, offsets = np.divmod(positions, len(self.source))
        out = np.empty(len(positions), np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = slice(*np.searchsorted(epochs, [epoch, epoch + 1]))
            out[inside] = self.permutation(epoch)[offsets[inside]]
        return out.reshape(count, self.batch_size)

    def __call__(self, first, count=1, rows=slice(None)):
        """{field: [count, b, ...], 'position': int32 [count, b]}: this process's rows of `count` batches.

        rows: the part of each global batch that this process loads (b of batch_size examples).
        position: the index in the global batch, 0..batch_size-1; it keys the noise of an example.
        """
        chosen = self.indices(first, count)[:, rows]
        batch = {
            name: array.reshape(*chosen.shape, *array.shape[1:])
            for name, array in self.source.rows(chosen.ravel()).items()
        }
        position = np.arange(self.batch_size, dtype=np.int32)[rows]
        return batch | {'position': np.repeat(position[None], count, axis=0)}

    def stream(self, first, count, stop, rows=slice(None), workers=0):
        """Iterates over (number of the first batch, `count` batches) from batch `first` until `stop`, in order.

        The last item is shorter when `count` does not divide stop - first. Sources in memory are gathered in this
        thread; others are read ahead by grain's threads, in `workers` processes when workers > 0 (a script that uses
        processes needs `if __name__ == '__main__':`). Close it (`contextlib.closing`) to stop threads and processes.
        """
        starts = range(first, stop, count)

        def item(n):
            return n, self(n, min(count, stop - n), rows)

        if self.source.in_memory:
            return (item(n) for n in starts)
        return _read_ahead(starts, item, workers)


def _read_ahead(starts, item, workers):
    """Items in order, prepared ahead by grain; closing this generator ends its threads and processes."""
    if not starts:
        return
    import grain

    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=READ_AHEAD)
    data = grain.MapDataset.source(starts).map(item).to_iter_dataset(options)
    if workers > 0:
        _allow_workers()
        data = data.mp_prefetch(grain.MultiprocessingOptions(num_workers=min(workers, len(starts))))
    iterator = iter(data)
    try:
        for n, batch in iterator:
            # arrays of a process live in shared memory, which ends with the process: copied out
            yield int(n), {name: np.array(array) for name, array in batch.items()} if workers > 0 else batch
    finally:
        iterator.close()


def _allow_workers():
    """grain's processes refuse to start before absl has parsed its flags, which a notebook or a test never does."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
