"""Tests checkpoints: atomic, with checksums, and restored onto any placement."""

import shutil

import jax
import numpy as np
import pytest

from genlab.errors import ConfigError, UserError
from genlab.run.files import path_of
from genlab.training import checkpoint, parallel
from genlab.training.checkpoint import Best, Checkpoints
from genlab.training.state import State
from support.bucket import bucket


def tree(value, placement):
    params = {'net': {'w': np.full((128, 256), value, np.float32)}}
    return parallel.replicate(placement, State(np.int32(value), params, {}, {}, {}))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """Saves checkpoints 1, 2 and 3 of a replicated tree, and keeps two."""
    folder, placement = tmp_path_factory.mktemp('run') / 'checkpoints', parallel.place('pmap')
    with Checkpoints(folder, keep=2, warn=print) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step, placement), {'since': step})
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / 'checkpoints')


def restore(folder, placement_name='pmap', which='newest', tensor=1, **options):
    warnings, placement = [], parallel.place(placement_name, tensor=tensor)
    params = {'net': {'w': jax.ShapeDtypeStruct((128, 256), np.float32)}}
    shapes = State(jax.ShapeDtypeStruct((), np.int32), params, {}, {}, {})
    with Checkpoints(folder, keep=2, warn=warnings.append, **options) as checkpoints:
        return checkpoints.restore(parallel.template(placement, shapes), which), warnings


def test_the_last_checkpoint_is_on_disk_at_exit_and_old_ones_are_removed(saved):
    assert sorted(path.name for path in saved.iterdir() if path.name.isdigit()) == ['2', '3']
    assert all(checkpoint.fault_of(saved / step) is None for step in '23')


@pytest.mark.parametrize(
    'name, tensor, shard', [('pmap', 1, (128, 256)), ('fsdp', 1, (128, 64)), ('fsdp', 2, (64, 128))]
)
def test_a_checkpoint_is_restored_onto_any_placement(copy, name, tensor, shard):
    (step, state, notes), warnings = restore(copy, name, tensor=tensor)
    assert (step, notes, warnings) == (3, {'since': 3}, [])
    weights = state.params['net']['w']
    np.testing.assert_array_equal(weights, np.full((128, 256), 3, np.float32))
    assert weights.addressable_shards[0].data.shape == shard


def test_a_checkpoint_of_two_split_axes_is_restored_onto_one(tmp_path):
    placement, weights = parallel.place('fsdp', tensor=2), np.arange(128 * 256, dtype=np.float32).reshape(128, 256)
    state = State(np.int32(1), {'net': {'w': weights}}, {}, {}, {})
    with Checkpoints(tmp_path / 'checkpoints', keep=2, warn=print) as checkpoints:
        checkpoints.save(1, jax.device_put(state, placement.shardings(state)), {})
    (_, restored, _), _ = restore(tmp_path / 'checkpoints', 'fsdp')
    np.testing.assert_array_equal(restored.params['net']['w'], weights)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {
    'flipped bit': flip,
    'truncated': lambda path: path.write_bytes(path.read_bytes()[:-7]),
    'missing': lambda path: path.unlink(),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_damage_to_any_file_is_detected(copy, kind):
    """Damages each file of the newest: the previous one is restored with a warning, and saving continues."""
    files = [path for path in (copy / '3/state').rglob('*') if path.is_file() and path.stat().st_size > 0]
    DAMAGE[kind](max(files, key=lambda path: path.stat().st_size))
    (step, _, _), warnings = restore(copy)
    assert step == 2 and len(warnings) == 1 and 'checkpoint 3 cannot be read' in warnings[0]
    assert (copy / 'damaged-3').exists() and not (copy / '3').exists()
    with Checkpoints(copy, keep=2, warn=print) as checkpoints:
        checkpoints.save(3, tree(3, parallel.place('pmap')), {})
    assert restore(copy)[0][0] == 3


def test_each_file_has_a_checksum(saved, tmp_path):
    files = [path.relative_to(saved) for path in (saved / '3').glob('*/**/*') if path.is_file() and path.stat().st_size]
    assert len(files) > 5
    for file in files:
        folder = shutil.copytree(saved / '3', tmp_path / 'copy')
        flip(folder / file.relative_to('3'))
        assert 'checksum' in checkpoint.fault_of(folder)
        shutil.rmtree(folder)


def test_a_half_written_or_empty_folder_is_no_checkpoint(copy):
    (copy / '9').mkdir()
    (copy / '8.orbax-checkpoint-tmp').mkdir()
    (copy / '3/checksums.json').write_text('{"st')
    (step, _, _), warnings = restore(copy)
    assert step == 2 and any('checkpoint 9 is incomplete' in warning for warning in warnings)
    assert not (copy / '8.orbax-checkpoint-tmp').exists()


def test_checksums_that_are_no_object_are_damage(copy):
    (copy / '3/checksums.json').write_text('[1]')
    (step, _, _), warnings = restore(copy)
    assert step == 2 and 'checkpoint 3 cannot be read (its checksums are missing or unreadable)' in warnings[0]


def test_a_renamed_checkpoint_is_refused(copy):
    (copy / '3').rename(copy / '30')
    (step, _, _), warnings = restore(copy)
    assert step == 2 and 'checkpoint 30 cannot be read (it holds step 3)' in warnings[0]


def test_a_reader_takes_the_newest_where_a_run_replaces_its_checkpoints(copy, tmp_path, monkeypatch):
    """Imitates a run with keep=1: while 2 is read, 3 appears and 2 is damaged by its removal."""
    newest = (copy / '3').rename(tmp_path / '3')
    fault_of = checkpoint.fault_of

    def replaced(folder):
        if newest.exists():
            newest.rename(copy / '3')
            flip(copy / '2/state/manifest.ocdbt')
        return fault_of(folder)

    monkeypatch.setattr(checkpoint, 'fault_of', replaced)
    (step, _, _), warnings = restore(copy, read_only=True)
    assert (step, warnings) == (3, [])


def test_if_none_can_be_read_an_error_is_raised(copy):
    for step in '23':
        flip(copy / step / 'state/manifest.ocdbt')
    with pytest.raises(UserError, match='no checkpoint in .* can be read'):
        restore(copy)
    assert (copy / '3').exists()


def test_reading_changes_nothing(copy):
    flip(copy / '3/state/manifest.ocdbt')
    (copy / '9').mkdir()
    assert restore(copy, read_only=True)[0][0] == 2
    assert {path.name for path in copy.iterdir()} >= {'2', '3', '9'}


def test_an_empty_folder_has_none_and_a_missing_one_is_an_error(tmp_path):
    assert restore(tmp_path / 'new')[0] is None
    with pytest.raises(UserError, match='there are no checkpoints'):
        restore(tmp_path / 'other', read_only=True)


def test_a_full_disk_is_named_with_the_last_good_checkpoint(copy, monkeypatch):
    with Checkpoints(copy, keep=2, warn=print) as checkpoints:

        def full(*arguments, **options):
            raise ValueError('RESOURCE_EXHAUSTED: Error writing "x": No space left on device')

        monkeypatch.setattr(checkpoints.manager, 'save', full)
        with pytest.raises(UserError, match=r'the disk of .* is full; step 3 is saved: make room, and run the same'):
            checkpoints.save(4, tree(4, parallel.place('pmap')), {})


def test_the_best_is_kept_beside_the_newest_until_another_is_better(tmp_path):
    """The record outlives the process: the best is still kept when the run goes on."""
    placement, kept = parallel.place('pmap'), []

    def save(*steps, best=None):
        with Checkpoints(tmp_path, keep=1, warn=print) as checkpoints:
            for step in steps:
                checkpoints.save(step, tree(step, placement), {})
                if step == best:
                    checkpoints.record_best(Best(step, 'nll', 0.5, 'id'))
        kept.append(sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()))

    save(1, 2, best=1)
    save(3)
    assert kept == [[1, 2], [1, 3]]
    assert restore(tmp_path, which='best', read_only=True)[0][0] == 1
    assert restore(tmp_path, which='newest', read_only=True)[0][0] == 3
    save(4, 5, best=4)
    assert kept[-1] == [4, 5]


def test_a_named_checkpoint_has_no_substitute(copy):
    assert restore(copy, which='2', read_only=True)[0][0] == 2
    for which, said in (
        ('9', 'there is no such step'),
        ('best', 'no best checkpoint is recorded'),
        ('beste', 'choose'),
    ):
        with pytest.raises(ConfigError, match=f'--checkpoint={which}: {said}.* holds 2, 3'):
            restore(copy, which=which, read_only=True)
    flip(copy / '2/state/manifest.ocdbt')
    with pytest.raises(UserError, match='--checkpoint=2: checkpoint 2 in .* cannot be read .*checksum'):
        restore(copy, which='2', read_only=True)


def test_the_record_of_a_best_checkpoint_that_is_gone_counts_for_nothing(copy):
    with Checkpoints(copy, keep=2, warn=print) as checkpoints:
        checkpoints.record_best(Best(2, 'nll', 0.5, 'id'))
        assert checkpoints.best().step == 2
    shutil.rmtree(copy / '2')
    for content in ('{"step": 2, "figure": "nll", "value": 0.5, "protocol": "id"}', '{"step": 3}', '[', '{}'):
        (copy / 'best.json').write_text(content)
        with Checkpoints(copy, keep=2, warn=print, read_only=True) as checkpoints:
            assert checkpoints.best() is None


def test_checkpoints_in_a_bucket_that_are_incomplete_or_damaged_do_not_count():
    with bucket() as objects:
        folder, placement = path_of('gs://lab/run/checkpoints'), parallel.place('pmap')
        with Checkpoints(folder, keep=4, warn=print) as checkpoints:
            for step in (1, 2, 3):
                checkpoints.save(step, tree(step, placement), {'since': step})
        del objects['lab/run/checkpoints/3/commit_success.txt']  # as if the run had been killed
        name = 'lab/run/checkpoints/2/state/manifest.ocdbt'
        objects[name] = b'damaged', *objects[name][1:]
        (step, state, notes), (line,) = restore(folder)
        assert (step, notes) == (1, {'since': 1}) and np.all(np.asarray(state.params['net']['w']) == 1)
        assert line == (
            'checkpoint 2 cannot be read (the checksum of state/manifest.ocdbt is wrong): trying the one before'
        )
        assert {name.split('/')[3] for name in objects} == {'1', 'damaged-2'}
