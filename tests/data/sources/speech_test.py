"""Tests speech: the synthesiser against other computations, pairs with images, folders, and refusals."""

import os
import shutil

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import lfilter

from genlab.config import defaults as configs
from genlab.config import small
from genlab.data import Batches, audio, check, declared, fingerprint, load, prepare_batch
from genlab.data.load import defaults
from genlab.data.source import from_arrays, image_field, label_field
from genlab.data.sources.digits import digits
from genlab.data.sources.speech import recordings, speech, synthesis
from genlab.errors import ConfigError

FEW = {'train': (0, 240), 'test': (2**32, 60)}
FIELDS = ['image', 'label', 'speech', 'speech_length', 'speaker']


@pytest.fixture(scope='module')
def few():
    """Makes fewer synthetic clips, for the time of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech, 'CLIPS', FEW)
        yield


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder of 42 clips: numbers 3 to 9 of three classes and two speakers, some at another rate."""
    root = tmp_path_factory.mktemp('spoken') / 'set'
    (root / 'recordings').mkdir(parents=True)
    names = [(label, voice, number) for label in (1, 4, 9) for voice in (0, 5) for number in range(3, 10)]
    clips = synthesis.digits(*np.array(names).T)
    for (label, voice, number), clip in zip(names, clips):
        path = root / 'recordings' / f'{label}_{["bob", "ann_lee"][voice > 0]}_{number}.wav'
        wavfile.write(path, audio.RATE, (clip * 32767).astype(np.int16))
    wavfile.write(root / 'noise.wav', audio.RATE, clips[0])
    (root / 'recordings' / '.4_bob_1.wav').write_bytes(b'hidden')
    return root


def rows(source):
    return source.rows(np.arange(len(source)))


def numbers(count):
    return np.arange(count) % 10, np.arange(count) % 6, np.arange(count)


def test_resonators_equal_a_cascade_of_filters():
    rng = np.random.default_rng(0)
    frequency, width = np.array([500, 1500, 2500, 3000.0])[:, None, None], np.array([60, 90, 150, 800.0])[:, None, None]
    gain, first, second = (np.tile(part, (1, 2, 5)) for part in synthesis.resonators(frequency, width))
    excitation = rng.standard_normal((2, 2, 5 * synthesis.STEP))
    found = synthesis.resonate(excitation, gain, first, second)
    for clip in range(2):
        one = lambda number, x: lfilter(gain[number, :1, 0], [1, -first[number, 0, 0], -second[number, 0, 0]], x)
        voiced = one(2, one(1, one(0, excitation[0, clip])))
        expected = np.concatenate([[0, 0], voiced[:-2]]) + one(3, excitation[1, clip])
        np.testing.assert_allclose(found[clip], expected, rtol=1e-3, atol=1e-3)
    turns = np.exp(-2j * np.pi * np.arange(0, 4000) / audio.RATE)  # per Hz
    response = np.abs(gain[:, 0, :1] / (1 - first[:, 0, :1] * turns - second[:, 0, :1] * turns**2))
    np.testing.assert_allclose(response[:, 0], 1)
    np.testing.assert_allclose(response[:3].argmax(1), [500, 1500, 2500], atol=5)
    half = [np.ptp(np.flatnonzero(row > row.max() / np.sqrt(2))) for row in response[:3]]
    np.testing.assert_allclose(half, [60, 90, 150], rtol=0.03)


def test_pulses_come_at_the_pitch_and_let_no_flow_remain():
    found = synthesis.pulses(np.full((1, 200), 125.0))[0]
    assert found.shape == (200 * synthesis.STEP,)
    np.testing.assert_allclose(found[:-64], found[64:], atol=1e-3)  # 8000 / 125 samples
    assert abs(found.sum()) < 0.02 * np.abs(found).sum() and found.min() >= -1 and found.max() <= 1 / 3 + 1e-6


def test_a_track_holds_at_targets_and_is_straight_between():
    seconds, targets = np.array([[1.0, 2.0, 0.0]]), np.array([[1.0, 3.0, 7.0]])
    found = synthesis.track(np.array([0, 0.7, 1.05, 1.4, 2.6, 9]), seconds, targets, 0.2)
    np.testing.assert_allclose(found[0, :5], [1, 1, 1 + 2 * 0.35 / 0.9, 1 + 2 * 0.7 / 0.9, 3 + 4 * 0.2 / 0.6])
    assert found[0, 5] == 7


def test_a_clip_depends_on_its_own_numbers_alone():
    clips = synthesis.digits(*numbers(12))
    again = synthesis.digits(*(part[[7, 3]] for part in numbers(12)))
    np.testing.assert_array_equal(again[0], clips[7])
    np.testing.assert_array_equal(again[1], clips[3])
    assert all(np.abs(clip).max() == 1 and len(clip) <= synthesis.LONGEST * audio.RATE + 1 for clip in clips)
    assert len({clip.tobytes() for clip in synthesis.digits(*(part[[4] * 3] for part in numbers(5)))}) == 1


def test_synthetic_clips_are_as_declared_and_come_with_images_of_their_class(few):
    config = defaults(source='speech', resolution=8, fields=('speech', 'speech_length'))
    for split, count in (('train', 7 * 240), ('test', 60)):  # 1,500 images take seven rounds of 240 clips
        source = load(config, split)
        found = check(source, rows(source))
        assert list(found) == FIELDS and len(source) == count and source.name == f'speech/{split}'
        np.testing.assert_array_equal(source.labels, found['label'])
        images = rows(digits(8, split=split))
        of_class = {(label, image.tobytes()) for label, image in zip(images['label'].tolist(), images['image'])}
        used = [*zip(found['label'].tolist(), (image.tobytes() for image in found['image']))]
        assert {*used} <= of_class and np.bincount(found['label']).tolist() == [count // 10] * 10
        counts = [used.count(one) for one in {*used}] if split == 'train' else [1]
        assert max(counts) <= 2 and len(used) > 0
        valid = np.arange(audio.FRAMES) < found['speech_length'][:, None]
        assert not found['speech'][~valid].any() and {*found['speaker'].tolist()} == {*range(6)}
    assert declared(config).fields == load(config).fields and len(declared(config)) == 7 * 240
    prepared = prepare_batch(config, source)
    assert prepared and check(source, Batches(source, 4, seed=0)(0))['speech'].shape == (1, 4, 80, 40)


def test_a_voice_can_be_held_out_and_its_digits_are_told_apart(few):
    """By the nearest mean of eight parts of a clip, over the other five voices."""
    config = defaults(source='speech', resolution=8, speaker='alto')
    train, test = (rows(load(config, split)) for split in ('train', 'test'))
    assert {*test['speaker'].tolist()} == {3} and {*train['speaker'].tolist()} == {0, 1, 2, 4, 5}

    def parts(found):
        ends = [np.linspace(0, length, 9).astype(int) for length in found['speech_length']]
        return np.stack(
            [
                np.concatenate([clip[a : max(a + 1, b)].mean(0) for a, b in zip(end, end[1:])])
                for clip, end in zip(found['speech'], ends)
            ]
        )

    train = {name: array[:240] for name, array in train.items()}
    known, asked = parts(train), parts(test)
    means = np.stack([known[train['label'] == label].mean(0) for label in range(10)])
    right = ((asked[:, None] - means) ** 2).sum(-1).argmin(1) == test['label']
    assert right.mean() > 0.6


def test_a_folder_is_read_by_its_names(folder, capsys):
    config = defaults(source='speech', dir=str(folder), resolution=8)
    train, test = (load(config, split) for split in ('train', 'test'))
    found = check(train, rows(train))
    assert len(test) == 12 and len(train) == 30 * 50 and train.classes == tuple('0123456789')
    assert {*found['label'].tolist()} == {1, 4, 9} and train.name == 'speech of set/train'
    first = {name: array[0] for name, array in found.items()}
    own = audio.features(folder / 'recordings' / '1_ann_lee_5.wav', train.fields['speech'])
    assert first['label'] == 1 and first['speaker'] == 0 and found['speaker'][5] == 1
    np.testing.assert_array_equal(first['speech'], own['speech'])
    assert first['speech_length'] == own['speech_length']
    again = train.rows(np.array([30, 60]))  # the same clip with other images
    np.testing.assert_array_equal(again['speech'][0], first['speech'])
    assert len({image.tobytes() for image in (first['image'], *again['image'])}) == 3
    assert 'skipped 1 WAV files' in capsys.readouterr().err


def test_a_speaker_is_held_out_of_a_folder(folder):
    config = defaults(source='speech', dir=str(folder), resolution=8, speaker='bob')
    train, test = (rows(load(config, split)) for split in ('train', 'test'))
    assert len(test['speaker']) == 21 and {*test['speaker'].tolist()} == {1} and {*train['speaker'].tolist()} == {0}


def test_a_folder_is_declared_without_reading_clips(folder, monkeypatch):
    config = defaults(source='speech', dir=str(folder), resolution=8, bands=80)
    known = load(config)
    monkeypatch.setattr(audio, 'decode', None)
    monkeypatch.setattr(synthesis, 'digits', None)
    found = declared(config)
    assert (found.name, len(found), found.fields) == (known.name, len(known), known.fields)
    assert found.fields['speech'].shape == (80, 80)
    np.testing.assert_array_equal(found.labels, known.labels)
    check(found, found.rows(np.arange(5)))
    config.dir = str(folder / 'absent')
    assert declared(config).fields == known.fields
    config.update(dir=str(folder), name='no_such_set')
    assert list(declared(config).fields) == FIELDS


def test_changed_recordings_change_the_fingerprint_and_moved_ones_do_not(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / 'other')
    for path in moved.rglob('*.wav'):
        os.utime(path, (1, 1))
    of = lambda place: fingerprint.of(load(defaults(source='speech', dir=str(place), resolution=8))).digest
    before = of(folder)
    assert of(moved) == before
    wavfile.write(moved / 'recordings' / '1_bob_5.wav', audio.RATE, np.random.default_rng(0).standard_normal(900))
    assert of(moved) != before


def test_recordings_that_cannot_be_used_are_left_out_and_named(folder, tmp_path, capsys):
    broken = shutil.copytree(folder, tmp_path / 'broken') / 'recordings'
    (broken / '1_bob_5.wav').write_bytes(b'RIFF')
    wavfile.write(broken / '9_bob_6.wav', audio.RATE, np.zeros(800, np.int16))
    found = recordings.read(recordings.find(str(broken), 'train'), 'train', 40)
    error = capsys.readouterr().err
    assert len(found.speech) == 28 == len(found.listing.files) and (found.lengths > 0).all()
    assert 'left out 2 of 30 recordings' in error and '1_bob_5.wav (it is not a WAV' in error
    assert 'it is silent' in error
    for path in broken.glob('*_5.wav'):
        path.rename(broken / path.name.replace('_5', '_2'))
    for path in broken.glob('*_[2-9].wav'):
        path.write_bytes(b'')
    with pytest.raises(ConfigError, match='none of the 24 recordings of recordings/train .*: replace them'):
        load(defaults(source='speech', dir=str(broken)))


def test_images_are_used_equally_often_and_their_labels_are_read_where_unknown():
    labels = np.repeat([0, 1], [4, 12]).astype(np.int32)
    image = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    fields = {'image': image_field(8, 1), 'label': label_field(2)}
    images = from_arrays('set', {'image': image, 'label': labels}, fields, classes=('a', 'b'), labels=None)
    np.testing.assert_array_equal(speech._labels(images), labels)
    chosen = speech.paired(np.array([0, 1] * 8), labels, images)
    assert (labels[chosen] == [0, 1] * 8).all()
    assert np.bincount(chosen[::2]).tolist() == [2] * 4 and len({*chosen[1::2].tolist()}) == 8


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'speaker': 'altos'}, r"config.data.speaker='altos': choose one of bass, .*did you mean alto"),
        ({'bands': 500}, 'config.data.bands=500: choose 8 to 128, or 0 for 40'),
        ({'dir': 'absent'}, 'absent is not a folder: set it to a folder of WAV files'),
        ({'source': 'digits', 'speaker': 'alto'}, "speaker='alto' is not read by config.data.source='digits'"),
        ({'dir': '{folder}', 'speaker': 'theo'}, "speaker='theo': choose one of ann_lee, bob"),
        ({'dir': '{folder}/empty'}, 'has no recordings: name WAV files class_speaker_number.wav'),
        ({'dir': '{folder}/one'}, 'no recordings for the train split. The numbers 0 to 4 are the test split'),
        ({'dir': '{folder}/one', 'speaker': 'bob'}, "config.data.speaker='bob' is the test split: add recordings"),
        ({'dir': '{folder}/word'}, "the class 'yes' is spoken, but digits/train has the classes 0, 1, .*: set config"),
    ],
)
def test_wrong_configs_are_refused_in_one_line(changes, message, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / 'copy')
    for name, file in (('empty', 'a.txt'), ('one', '3_bob_0.wav'), ('word', 'yes_bob_7.wav')):
        (copy / name).mkdir()
        shutil.copy(folder / 'noise.wav', copy / name / file)
    changes = {name: value.format(folder=copy) if name == 'dir' else value for name, value in changes.items()}
    with pytest.raises(ConfigError, match=message) as raised:
        load(defaults(**{'source': 'speech', 'resolution': 8, **changes}))
    assert '\n' not in str(raised.value)


def test_the_tests_of_a_config_need_no_files():
    config = configs('gan')
    config.data.update(source='speech', dir='spoken', name='mnist', images_dir='sets', speaker='theo', bands=80)
    found = small(config).data
    assert [found[name] for name in ('source', 'dir', 'name', 'images_dir', 'speaker', 'bands')] == [
        'speech', '', '', '', '', 80,
    ]  # fmt: skip
