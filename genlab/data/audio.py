"""Computes log-mel features of speech from WAV files, in numpy on the host.

A clip is resampled to 8,000 Hz and cut into Hann windows of 25 ms, one per 10 ms. The power spectrum of each window is
summed in triangular bands of equal width on the HTK mel scale. Features are the logarithms of these energies.

Each clip is normalised separately. Quiet ends are cut off, and energies have a floor relative to the loudest one. The
level and the tilt of the mean spectrum are removed, and the variance is 1. So features depend little on gain and
microphone, and not at all on other clips. A user's file has the same features as a file of a set.
"""

import functools
import io
import math
import warnings
from pathlib import Path

import numpy as np

from genlab.data.source import Field
from genlab.errors import ConfigError

VERSION = 1  # version of the features: increase it when their values change, to invalidate cached ones
RATE = 8_000  # Hz, after resampling
WINDOW = RATE * 25 // 1000  # samples, 25 ms
HOP = RATE // 100  # samples, 10 ms
FFT = 512  # points: with bins of 15.6 Hz no band is empty, even if there are many
BANDS = 40  # by default
LIMITS = (8, 128)  # the least and the largest number of bands
FRAMES = 80  # most frames of a clip, 0.8 s
FLOOR = 1e-10  # least energy of a band: quantisation to 16 bits has more
RANGE = 60.0  # dB below the loudest energy of a clip to which all others are raised
SILENCE = 40.0  # dB below the loudest frame: quieter frames at the ends are cut off
RATES = (1_000, 768_000)  # Hz, the least and the largest rate of a file


def decode(content: bytes) -> tuple[np.ndarray, int]:
    """Decodes a WAV file: PCM of 8 to 64 bits or floats, of any rate and number of channels.

    Args:
        content: the bytes of the file.

    Returns:
        (samples, float32 [n], the mean of the channels, full scale is 1; the rate in Hz).

    Raises:
        ValueError: the file cannot be read, or has no samples; the message says why.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # unknown chunks, and sizes that a pipe could not fill in
            rate, samples = wavfile.read(io.BytesIO(content))
    except Exception as error:  # a damaged header raises nearly anything
        raise ValueError('it is not a WAV file, or it is damaged') from error
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f'its rate is {rate} Hz, not {RATES[0]} to {RATES[1]}')
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):  # 24 bits come as the upper ones of 32
        samples = samples / np.float64(2.0 ** (8 * samples.itemsize - 1))
    if samples.ndim > 1:
        samples = samples.mean(1)
    if not len(samples):
        raise ValueError('it has no samples')
    if not np.isfinite(samples).all():
        raise ValueError('it has samples that are not numbers')
    return samples.astype(np.float32), int(rate)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resamples [n] from `rate` to RATE by a polyphase filter, which removes frequencies above half the lower rate."""
    if rate == RATE:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, RATE)
    return resample_poly(samples, RATE // common, rate // common).astype(np.float32)


def mel(frequency: np.ndarray | float) -> np.ndarray:
    """Converts Hz to mel by the formula of HTK: 2595 log10(1 + f / 700)."""
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)


def centres(bands: int) -> np.ndarray:
    """Returns the lower edge, the centres of the bands and the upper edge in Hz: [bands + 2], 0 to RATE / 2."""
    return 700 * (10 ** (np.linspace(0, mel(RATE / 2), bands + 2) / 2595) - 1)


@functools.cache
def filters(bands: int) -> np.ndarray:
    """Returns the weight of each bin of a power spectrum in each band: float32 [FFT / 2 + 1, bands].

    A band is a triangle in Hz, 1 at its centre and 0 at the centres of its neighbours. So the weights of a bin between
    the first and the last centre sum to 1.
    """
    bins, edges = np.arange(FFT // 2 + 1) * (RATE / FFT), centres(bands)
    rising = (bins[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins[:, None]) / np.diff(edges)[1:]
    weights = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    weights.setflags(write=False)
    return weights


def energies(samples: np.ndarray, bands: int = BANDS) -> np.ndarray:
    """Returns the energy of each band in each frame: float32 [frames, bands].

    Frame t starts at sample HOP * t; the last frame is whole. A clip that is shorter than a window is padded.

    Args:
        samples: [n] at RATE.
        bands: number of bands.
    """
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples)))).astype(np.float32)
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * hann
    spectrum = np.fft.rfft(frames, FFT)
    return (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ filters(bands)


def log_mel(samples: np.ndarray, bands: int = BANDS) -> np.ndarray:
    """Returns the natural logarithm of `energies`, at least log(FLOOR)."""
    return np.log(np.maximum(energies(samples, bands), FLOOR))


def spoken(samples: np.ndarray, rate: int, bands: int = BANDS, frames: int = FRAMES) -> tuple[np.ndarray, int]:
    """Returns the features of a clip. What is longer than `frames` is cut to its loudest part.

    Args:
        samples: [n].
        rate: in Hz.
        bands: number of bands.
        frames: most frames, T.

    Returns:
        (float32 [T, bands], zeros after the end; the number of frames before it, 1 to T).

    Raises:
        ValueError: the clip is silent.
    """
    samples = samples - samples.mean()
    logs = log_mel(resample(samples, rate), bands)
    first, end = _loud(np.exp(logs).sum(1), frames)
    if logs.max() < math.log(2 * FLOOR):
        raise ValueError('it is silent')
    padded = np.zeros((frames, bands), np.float32)
    padded[: end - first] = normalised(logs[first:end])
    return padded, end - first


def normalised(logs: np.ndarray) -> np.ndarray:
    """Returns logarithms [frames, bands] of one clip with a floor, and without its level, tilt and deviation.

    The level and the tilt are the line over the bands that fits the mean spectrum of the clip. They differ more between
    microphones than between words. The mean of the result is 0 and its variance 1.
    """
    logs = np.maximum(logs, logs.max() - RANGE * math.log(10) / 10)
    places = np.linspace(-1, 1, logs.shape[1])
    spectrum = logs.mean(0)
    line = spectrum.mean() + places * (spectrum @ places / (places @ places))
    flat = logs - line
    return (flat / max(flat.std(), 1e-3)).astype(np.float32)


def _loud(loudness: np.ndarray, most: int) -> tuple[int, int]:
    """Returns the first frame of speech and the one after the last; `loudness` [frames] is the energy of each."""
    loud = np.flatnonzero(loudness >= loudness.max() * 10 ** (-SILENCE / 10))
    first, end = int(loud[0]), int(loud[-1]) + 1
    if end - first > most:
        first += int(np.convolve(loudness[first:end], np.ones(most), 'valid').argmax())
        end = first + most
    return first, end


def features(path: str | Path, field: Field) -> dict[str, np.ndarray]:
    """Returns the features of one WAV file of a user, as a source of speech has them.

    Args:
        path: path of the file.
        field: the declaration of `speech`, whose shape is [T, bands].

    Returns:
        {'speech': float32 [T, bands], 'speech_length': int32 []}.

    Raises:
        ConfigError: the file cannot be read, or is silent.
    """
    frames, bands = field.shape
    try:
        speech, length = spoken(*decode(Path(path).expanduser().read_bytes()), bands, frames)
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror}') from None
    except ValueError as error:
        raise ConfigError(f'{path} cannot be used ({error}): give a WAV file of speech') from None
    return {'speech': speech, 'speech_length': np.array(length, np.int32)}
