"""Computes batches as a pure function of (seed, number), independent of the number of processes."""

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from genlab.data.source import Source
from genlab.errors import ConfigError

KEPT = 2  # cached permutations: a batch may straddle two epochs

Batch = dict[str, np.ndarray]
READ_AHEAD = 4  # batches that grain's threads prepare ahead of the loop


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """Returns batch n = 0, 1, ... of a source: the permutations of all epochs, concatenated.

    Example j of batch n has the position p = n * batch_size + j in this stream. It is row p % length of the permutation
    of epoch p // length. So every example is used once per epoch, and a batch may straddle two epochs.

    Each of the domains of an unpaired source has its own length, epochs and permutations. The first one is drawn as a
    source without domains would be.
    """

    source: Source
    batch_size: int
    seed: int
    _permutations: dict[tuple[int, int], np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for domain in self.domains:
            if self.batch_size < 1 or len(domain) < 1:
                raise ConfigError(
                    f'config.data.batch_size={self.batch_size} of {domain.name}, which has '
                    f'{len(domain)} examples: both must be at least 1'
                )

    @property
    def domains(self) -> tuple[Source, ...]:
        """The sources that are drawn in orders of their own: one, unless the source is unpaired."""
        return self.source.domains or (self.source,)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _permutations={})  # worker processes recompute them

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def permutation(self, epoch: int, domain: int = 0) -> np.ndarray:
        """Returns the order of the examples of a domain in an epoch: int64 [length of the domain]."""
        known = self._permutations.get((domain, epoch))
        if known is None:
            seeds = [self.seed, epoch, domain] if domain else [self.seed, epoch]
            known = np.random.default_rng(seeds).permutation(len(self.domains[domain]))
            for old in [key for key in list(self._permutations) if key[0] == domain][: 1 - KEPT]:
                self._permutations.pop(old, None)  # another thread may have been faster
            self._permutations[domain, epoch] = known
        return known

    def indices(self, first: int, count: int = 1, domain: int = 0) -> np.ndarray:
        """Returns the indices of batches first..first+count-1 into a domain: int64 [count, batch_size]."""
        positions = np.arange(first * self.batch_size, (first + count) * self.batch_size)
        epochs, offsets = np.divmod(positions, len(self.domains[domain]))
        out = np.empty(len(positions), np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = slice(*np.searchsorted(epochs, [epoch, epoch + 1]))
            out[inside] = self.permutation(epoch, domain)[offsets[inside]]
        return out.reshape(count, self.batch_size)

    def __call__(self, first: int, count: int = 1, rows: slice = slice(None)) -> Batch:
        """Returns the rows that this process loads of `count` batches.

        Args:
            first: number of the first batch.
            count: number of batches.
            rows: the part of each global batch that this process loads (b of batch_size examples).

        Returns:
            {field: [count, b, ...], 'position': int32 [count, b]}. The position is the index in the global batch,
            0..batch_size-1; it keys the noise of an example.
        """
        batch = {}
        for number, domain in enumerate(self.domains):
            chosen = self.indices(first, count, number)[:, rows]
            for name, array in domain.rows(chosen.ravel()).items():
                batch[name] = array.reshape(*chosen.shape, *array.shape[1:])
        return batch | {'position': self._positions(count, rows)}

    def numbered(self, first: int, count: int = 1, rows: slice = slice(None)) -> dict[str, Any]:
        """Returns the batches of `__call__` as numbers of examples, for `gathered`.

        Returns:
            {'index': per domain int32 [count, b], 'position': int32 [count, b]}.
        """
        index = tuple(
            self.indices(first, count, domain)[:, rows].astype(np.int32) for domain in range(len(self.domains))
        )
        return {'index': index, 'position': self._positions(count, rows)}

    def whole(self) -> tuple[Batch, ...]:
        """Returns all examples of each domain, {field: [length, ...]}."""
        return tuple(domain.rows(np.arange(len(domain))) for domain in self.domains)

    def _positions(self, count: int, rows: slice) -> np.ndarray:
        """Returns the positions in the global batch, int32 [count, b]."""
        return np.repeat(np.arange(self.batch_size, dtype=np.int32)[None, rows], count, axis=0)

    def stream(
        self, first: int, count: int, stop: int, rows: slice = slice(None), workers: int = 0
    ) -> Generator[tuple[int, Batch], None, None]:
        """Iterates over (number of the first batch, `count` batches) from batch `first` until `stop`, in order.

        Sources in memory are gathered in this thread; grain's threads read ahead for other sources. Close the
        iterator (`contextlib.closing`) to stop threads and processes.

        Args:
            first: number of the first batch.
            count: batches per item; the last item is shorter if `count` does not divide stop - first.
            stop: number after the last batch.
            rows: as in `__call__`.
            workers: processes that read ahead, 0 for none. A script that uses them needs
                `if __name__ == '__main__':`.

        Returns:
            Pairs (number, batch {field: [count, b, ...]}).
        """
        starts = range(first, stop, count)

        def item(n: int) -> tuple[int, Batch]:
            return n, self(n, min(count, stop - n), rows)

        if self.source.in_memory:
            return (item(n) for n in starts)
        return _read_ahead(starts, item, workers)


def gathered(whole: Sequence[Mapping[str, Any]], numbered: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the batches that `Batches.numbered` describes, from the examples of `Batches.whole`; it may be traced."""
    batch = {name: array[index] for domain, index in zip(whole, numbered['index']) for name, array in domain.items()}
    return batch | {'position': numbered['position']}


def _read_ahead(
    starts: range, item: Callable[[int], tuple[int, Batch]], workers: int
) -> Generator[tuple[int, Batch], None, None]:
    """Yields items in order, read ahead by grain; closing this generator ends its threads and processes.

    Args:
        starts: numbers of the first batches.
        item: maps the number of the first batch to the item.
        workers: processes that read ahead; 0 reads in threads.
    """
    if not starts:
        return
    import grain

    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=READ_AHEAD)
    data = grain.MapDataset.source(starts).map(item).to_iter_dataset(options)
    if workers > 0:
        _allow_workers()
        options = grain.MultiprocessingOptions(num_workers=min(workers, len(starts)))
        data = data.mp_prefetch(options, worker_init_fn=follow_parent)
    iterator = iter(data)
    try:
        for n, batch in iterator:
            # copied because the arrays live in shared memory, which ends with the process
            yield int(n), {name: np.array(array) for name, array in batch.items()} if workers > 0 else batch
    finally:
        iterator.close()


def follow_parent(worker: int, workers: int) -> None:
    """Makes this worker process end with its parent, and only then.

    A terminal or a scheduler sends a signal to stop to the workers too. The loop still needs them to finish its step.

    Args:
        worker: number of this worker; unused.
        workers: how many there are; unused.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Waits until the parent has ended, killed or not, and ends this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _allow_workers() -> None:
    """Marks absl's flags as parsed; grain's processes need it, and a notebook or a test does not parse flags."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
