"""Tests log-mel features against closed forms, the reader of WAV files, and what clips are made independent of."""

import io
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from genlab.data import audio
from genlab.data.source import Field
from genlab.errors import ConfigError

FIELD = Field((80, 40), np.dtype(np.float32), -np.inf, np.inf)


def tone(frequency, seconds=0.3, rate=audio.RATE):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def wav(samples, rate=audio.RATE):
    content = io.BytesIO()
    wavfile.write(content, rate, samples)
    return content.getvalue()


def test_weights_of_bands_sum_to_one_between_the_outer_centres():
    for bands in (*audio.LIMITS, 40, 80):
        weights, centres = audio.filters(bands), audio.centres(bands)
        bins = np.arange(audio.FFT // 2 + 1) * audio.RATE / audio.FFT
        inside = (bins >= centres[1]) & (bins <= centres[-2])
        np.testing.assert_allclose(weights[inside].sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(weights[bins < centres[1]].sum(1), bins[bins < centres[1]] / centres[1], rtol=1e-5)
        assert weights.min() == 0 and (weights.sum(0) > 0).all()
    np.testing.assert_allclose(audio.mel(700), 2595 * np.log10(2))
    np.testing.assert_allclose(np.diff(audio.mel(audio.centres(40))), audio.mel(4000) / 41)


@pytest.mark.parametrize('band', [3, 17, 38])
def test_a_tone_lies_in_its_band_with_its_energy(band):
    """By Parseval, half the FFT times the sum of the squared window, 3/8 of its length, times the mean power, 1/2."""
    energies = audio.energies(tone(audio.centres(40)[band + 1]))
    assert energies.shape == (1 + (2400 - 200) // 80, 40) and (energies.argmax(1) == band).all()
    np.testing.assert_allclose(energies.sum(1), 512 / 2 * 3 / 8 * 200 / 2, rtol=0.01)


def test_frames_start_every_ten_milliseconds_and_short_clips_have_one():
    click = np.zeros(800, np.float32)
    click[400] = 1
    heard = audio.log_mel(click).max(1) > np.log(audio.FLOOR) + 1
    assert heard.nonzero()[0].tolist() == [3, 4]  # 240..439 and 320..519; the window of the sixth is 0 at its start
    assert audio.energies(click[:50]).shape == (1, 40) and audio.energies(click[:280]).shape == (2, 40)
    assert (audio.log_mel(np.zeros(300)) == np.float32(np.log(audio.FLOOR))).all()


def test_a_clip_is_normalised_and_padded_whatever_its_gain():
    clip = tone(500) * np.linspace(0.1, 1, 2400) + 0.01 * np.random.default_rng(0).standard_normal(2400)
    speech, length = audio.spoken(clip, audio.RATE)
    assert speech.shape == (80, 40) and speech.dtype == np.float32 and length == 28 and not speech[length:].any()
    np.testing.assert_allclose([speech[:length].mean(), speech[:length].std()], [0, 1], atol=1e-5)
    np.testing.assert_allclose(audio.spoken(0.01 * clip + 0.2, audio.RATE)[0], speech, atol=1e-3)


def test_level_tilt_and_deviation_of_a_clip_are_removed():
    logs = np.random.default_rng(0).uniform(-5, 0, (30, 40))
    found = audio.normalised(logs)
    line = np.polyval(np.polyfit(np.arange(40), logs.mean(0), 1), np.arange(40))
    np.testing.assert_allclose(found, (logs - line) / (logs - line).std(), atol=1e-5)
    np.testing.assert_allclose(audio.normalised(1.5 * logs + 7 + 0.02 * np.arange(40)), found, atol=1e-5)
    logs[3, 5] = -99
    floor = np.maximum(logs, logs.max() - 6 * np.log(10))
    np.testing.assert_allclose(audio.normalised(logs), audio.normalised(floor), atol=1e-6)


def test_quiet_ends_are_cut_off_and_the_loudest_part_of_a_long_clip_is_kept():
    noise = 1e-3 * np.random.default_rng(0).standard_normal(8000)
    ends = np.concatenate([noise, tone(500), noise])
    assert 28 <= audio.spoken(ends, audio.RATE)[1] <= 28 + 5  # windows that straddle an end are loud too
    speech, length = audio.spoken(np.concatenate([0.1 * tone(400, 1.0), tone(1500, 0.9), 0.1 * tone(400)]), audio.RATE)
    assert length == 80 and np.ptp(speech, 0).max() < 1e-3  # nothing but the loud tone


@pytest.mark.parametrize('rate', [11_025, 16_000, 44_100])
def test_other_rates_are_resampled_without_aliases(rate):
    clip = audio.resample(tone(1000, rate=rate), rate)
    inner = slice(3, 20)  # the filter rings at the ends
    np.testing.assert_allclose(audio.energies(clip)[inner].sum(1), 9600, rtol=0.02)
    assert audio.energies(audio.resample(tone(5200, rate=rate), rate))[inner].max() < 1e-3 * 9600


@pytest.mark.parametrize('kind', ['uint8', 'int16', 'int24', 'int32', 'float32', 'float64'])
@pytest.mark.parametrize('channels', [1, 2])
def test_every_form_of_samples_is_read(kind, channels):
    clip = 0.8 * tone(300, 0.05)
    both = np.stack([clip + 0.1, clip - 0.1], 1) if channels == 2 else clip
    if kind == 'int24':
        content = io.BytesIO()
        with wave.open(content, 'wb') as file:
            file.setnchannels(channels)
            file.setsampwidth(3)
            file.setframerate(22_050)
            levels = np.rint(both * 2**23).astype('<i4')
            file.writeframes(levels.reshape(-1, 1).view(np.uint8)[:, :3].tobytes())
        content = content.getvalue()
    else:
        scale = {'uint8': 127, 'int16': 2**15, 'int32': 2**31}.get(kind, 1)
        levels = np.rint(both * scale) + 128 * (kind == 'uint8') if scale > 1 else both
        content = wav(levels.astype(kind), 22_050)
    samples, rate = audio.decode(content)
    assert rate == 22_050 and samples.dtype == np.float32
    np.testing.assert_allclose(samples, clip, atol=0.02 if kind == 'uint8' else 1e-4)


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'not a WAV file, or it is damaged'),
        (b'ID3 an mp3', 'not a WAV file, or it is damaged'),
        (wav(np.ones(9, np.int16))[:30], 'not a WAV file, or it is damaged'),
        (wav(np.zeros(0, np.int16)), 'has no samples'),
        (wav(np.array([0, np.nan], np.float32)), 'samples that are not numbers'),
        (wav(tone(100), 8), 'its rate is 8 Hz, not 1000 to 768000'),
        (wav(np.full(4000, 7, np.int16)), 'it is silent'),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path, content, message):
    (tmp_path / 'a.wav').write_bytes(content)
    with pytest.raises(ConfigError, match=rf'a\.wav cannot be used \(.*{message}.*\): give a WAV file') as raised:
        audio.features(tmp_path / 'a.wav', FIELD)
    assert '\n' not in str(raised.value)


def test_features_of_a_file(tmp_path):
    (tmp_path / 'a.wav').write_bytes(wav(tone(700, 0.5, 16_000), 16_000))
    found = audio.features(str(tmp_path / 'a.wav'), Field((60, 80), np.dtype(np.float32), -np.inf, np.inf))
    assert found['speech'].shape == (60, 80) and found['speech'].dtype == np.float32
    assert found['speech_length'].shape == () and found['speech_length'].dtype == np.int32
    assert found['speech_length'] == 1 + (4000 - 200) // 80
    with pytest.raises(ConfigError, match='b.wav cannot be read: No such file'):
        audio.features(tmp_path / 'b.wav', FIELD)


def test_bands_equal_those_of_librosa():
    librosa = pytest.importorskip('librosa')
    clip = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    for bands in (40, 80):
        options = dict(n_fft=512, win_length=200, hop_length=80, center=False, n_mels=bands, htk=True, norm=None)
        before = (512 - 200) // 2  # librosa puts the window into the middle of the FFT
        theirs = librosa.feature.melspectrogram(y=np.pad(clip, before), sr=8000, **options)
        np.testing.assert_allclose(audio.energies(clip, bands), theirs.T, rtol=1e-3, atol=1e-3)
