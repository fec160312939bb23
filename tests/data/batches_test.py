"""Tests batches: one permutation per epoch, and the same batch for every order of requests."""

import multiprocessing
import time
from contextlib import closing

import jax
import numpy as np
import pytest

from genlab.data import Batches, Field, Source, batches
from genlab.data.batches import gathered
from genlab.data.source import from_arrays, held, unpaired
from genlab.data.sources.scenes.scenes import scenes
from genlab.errors import ConfigError
from genlab.training import parallel

LENGTH = 23


def numbers(in_memory=True):
    """Returns a source whose example i is the number i."""
    fields = {'point': Field((1,), np.dtype(np.float32), 0, LENGTH), 'label': Field((), np.dtype(np.int32), 0, LENGTH)}
    arrays = {'point': np.arange(LENGTH, dtype=np.float32)[:, None], 'label': np.arange(LENGTH, dtype=np.int32)}
    source = from_arrays('numbers', arrays, fields)
    return source if in_memory else Source('numbers', fields, LENGTH, source.rows, in_memory=False)


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        assert one[name].dtype == other[name].dtype


@pytest.mark.parametrize('size', [4, 23, 60])
def test_every_epoch_is_a_permutation_of_its_own(size):
    batches = Batches(numbers(), size, seed=3)
    flat = np.concatenate([batches.indices(n)[0] for n in range(-(-4 * LENGTH // size))])
    epochs = flat[: 4 * LENGTH].reshape(4, LENGTH)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(LENGTH), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert flat.dtype == np.int64


def test_permutation_follows_its_documented_definition():
    first = np.random.default_rng([7, 0]).permutation(LENGTH)
    second = np.random.default_rng([7, 1]).permutation(LENGTH)
    straddling = Batches(numbers(), 10, seed=7).indices(2)[0]
    np.testing.assert_array_equal(straddling, [*first[20:], *second[:7]])


def test_batches_are_the_same_in_any_order_and_grouping():
    batches = Batches(numbers(), 5, seed=1)
    together = batches.indices(0, 30)
    for n in (29, 3, 17, 0, 4):
        np.testing.assert_array_equal(batches.indices(n)[0], together[n])
        equal(
            {name: array[0] for name, array in batches(n).items()},
            {name: array[n] for name, array in batches(0, 30).items()},
        )
    assert not np.array_equal(together, Batches(numbers(), 5, seed=2).indices(0, 30))


def test_only_a_few_permutations_are_cached():
    batches = Batches(numbers(), 5, seed=1)
    for n in range(40):
        batches.indices(n)
    assert len(batches._permutations) == 2


def test_processes_load_parts_of_the_same_batch():
    batches = Batches(numbers(), 8, seed=1)
    whole = batches(2, 3)
    parts = [batches(2, 3, slice(start, start + 2)) for start in range(0, 8, 2)]
    equal(whole, {name: np.concatenate([part[name] for part in parts], axis=1) for name in whole})
    np.testing.assert_array_equal(whole['position'], np.tile(np.arange(8), (3, 1)))
    assert whole['position'].dtype == np.int32
    assert whole['point'].shape == (3, 8, 1) and whole['label'].shape == (3, 8)


def test_processes_read_each_example_once_per_epoch(monkeypatch):
    """Eight epochs of 23 examples in 23 batches of 8, read by 1, 2 and 4 processes."""
    batches = Batches(numbers(), 8, seed=1)
    for processes in (1, 2, 4):
        monkeypatch.setattr(jax, 'process_count', lambda: processes)
        read = []
        for process in range(processes):
            monkeypatch.setattr(jax, 'process_index', lambda: process)
            read.append(batches(0, LENGTH, parallel.process_rows(8, 4))['label'])
        assert {rows.shape for rows in read} == {(LENGTH, 8 // processes)}
        epochs = np.concatenate(read, axis=1).reshape(8, LENGTH)
        np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(LENGTH), (8, 1)))


@pytest.mark.parametrize('in_memory', [True, False])
def test_stream_gives_the_batches_in_order(in_memory):
    batches = Batches(numbers(in_memory), 6, seed=5)
    with closing(batches.stream(3, 2, 10, slice(0, 4), 0)) as stream:
        got = list(stream)
    assert [n for n, _ in got] == [3, 5, 7, 9]
    for n, batch in got:
        equal(batch, batches(n, min(2, 10 - n), slice(0, 4)))


def test_stream_closes_early():
    stream = Batches(numbers(in_memory=False), 6, seed=5).stream(0, 1, 10**9, slice(None), 0)
    assert next(stream)[0] == 0
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_stream_propagates_an_error():
    def broken(indices):
        raise OSError('the disk is gone')

    source = Source('broken', numbers().fields, LENGTH, broken, in_memory=False)
    with pytest.raises(OSError, match='the disk is gone'):
        list(Batches(source, 6, seed=5).stream(0, 1, 4))


def test_stream_in_processes():
    import multiprocessing

    batches = Batches(scenes(8), 4, seed=5)
    stream = batches.stream(0, 2, 40, slice(None), 1)
    for n in (0, 2):
        first, batch = next(stream)
        assert first == n
        equal(batch, batches(n, 2))
    stream.close()
    assert not multiprocessing.active_children()


def test_pickled_batches_leave_out_their_permutations():
    batches = Batches(numbers(), 5, seed=1)
    batches.indices(0)
    state = batches.__getstate__()
    assert state['_permutations'] == {} and len(batches._permutations) == 1


def test_an_empty_batch_is_refused():
    with pytest.raises(ConfigError, match='config.data.batch_size=0 of numbers.* at least 1'):
        Batches(numbers(), 0, seed=0)


def test_held_returns_the_same_source_in_memory():
    source = scenes(8)
    small = Source(source.name, source.fields, 37, source.rows, in_memory=False, classes=source.classes)
    kept = held(small, block=10)
    assert kept.in_memory and len(kept) == 37 and kept.classes == source.classes
    equal(kept.rows(np.array([36, 0, 5])), small.rows(np.array([36, 0, 5])))


def _worker(pipe):
    batches.follow_parent(0, 1)
    pipe.send('up')
    time.sleep(60)


def _parent(pipe):
    multiprocessing.get_context('fork').Process(target=_worker, args=(pipe,)).start()
    pipe.close()
    time.sleep(60)


@pytest.mark.filterwarnings('ignore:os.fork')
def test_a_worker_ends_with_its_parent():
    """A killed parent says nothing to its workers. The end of the worker closes the pipe."""
    ours, theirs = multiprocessing.Pipe()
    parent = multiprocessing.get_context('fork').Process(target=_parent, args=(theirs,))
    parent.start()
    theirs.close()
    assert ours.recv() == 'up'
    parent.kill()
    parent.join()
    assert ours.poll(10)
    with pytest.raises(EOFError):
        ours.recv()


def domains(one=5, two=8):
    """Returns an unpaired source: example i of the first domain is i, of the second 100 + i."""
    fields = {name: Field((), np.dtype(np.int32), 0, 200) for name in ('image', 'input')}
    parts = [
        from_arrays(name, {name: start + np.arange(length, dtype=np.int32)}, {name: fields[name]})
        for name, start, length in (('image', 0, one), ('input', 100, two))
    ]
    return unpaired(*parts)


def test_each_domain_has_epochs_and_permutations_of_its_own():
    drawn = Batches(domains(), 6, seed=3)(0, 20)
    images, inputs = (drawn[name].reshape(-1) for name in ('image', 'input'))
    np.testing.assert_array_equal(np.sort(images.reshape(-1, 5)), np.tile(np.arange(5), (24, 1)))
    np.testing.assert_array_equal(np.sort(inputs.reshape(-1, 8)), np.tile(100 + np.arange(8), (15, 1)))
    alone = Batches(domains().domains[0], 6, seed=3)
    np.testing.assert_array_equal(images, alone.indices(0, 20).reshape(-1))  # as a source without domains
    equal = Batches(domains(64, 64), 64, seed=3)(0, 2)
    assert 0 <= (equal['image'] == equal['input'] - 100).sum() < 10  # counterparts meet by accident alone
    assert not np.array_equal(Batches(domains(), 6, seed=4)(0, 20)['input'], drawn['input'])


def test_unpaired_batches_are_a_function_of_seed_and_number_for_all_processes_and_for_resident_data():
    batches = Batches(domains(), 6, seed=1)
    whole = batches(0, 9)
    for n in (8, 0, 5):
        equal({name: array[0] for name, array in batches(n).items()}, {name: array[n] for name, array in whole.items()})
    parts = [batches(0, 9, slice(start, start + 2)) for start in range(0, 6, 2)]
    equal(whole, {name: np.concatenate([part[name] for part in parts], axis=1) for name in whole})
    resident, numbered = batches.whole(), batches.numbered(3, 2, slice(2, 5))
    equal(gathered(resident, numbered), batches(3, 2, slice(2, 5)))
    assert len(batches._permutations) <= 4
    with closing(batches.stream(0, 3, 9)) as stream:
        streamed = [batch for _, batch in stream]
    equal(whole, {name: np.concatenate([batch[name] for batch in streamed]) for name in whole})
    with pytest.raises(ConfigError, match='batch_size=2 of input, which has 0 examples'):
        Batches(domains(5, 0), 2, seed=0)
