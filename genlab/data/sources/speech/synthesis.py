"""Synthesises spoken digits from their index alone, by formants (Klatt 1980, "Software for a cascade/parallel formant
synthesizer", simplified).

Glottal pulses pass three resonators in cascade, the formants. Noise of fricatives and bursts passes a separate one.
Resonances and amplitudes move along the targets of the phonemes of a digit. Voices differ in pitch, in the
length of the vocal tract, which scales all formants, and in breath. Clips differ in speed, melody, clearness, lengths
of phonemes, and in background noise.
"""

from typing import NamedTuple

import numpy as np

from genlab.data.audio import RATE

SEED = 2026  # change it when the clips change, to invalidate cached features
LONGEST = 0.75  # seconds
STEP = 40  # samples between updates of the resonators, 5 ms
WIDTHS = (60.0, 90.0, 150.0)  # Hz, bandwidths of the formants
HIGHEST = 0.47 * RATE  # Hz of a resonance
NEUTRAL = (500.0, 1500.0, 2500.0)  # Hz, formants of a uniform tube, to which fast speech is reduced
MOST_REDUCED = 0.5  # of the way there, in log frequency
BACKGROUND = (-45.0, -12.0)  # dB of the background noise below the peak
OPEN = 0.6  # share of a period in which the glottis is open


class Phoneme(NamedTuple):
    """The target of a phoneme. Vowels are the men's averages of Peterson and Barney (1952), consonants Klatt's."""

    formants: tuple[float, float, float]  # Hz
    seconds: float
    voice: float = 0.0  # amplitude of glottal pulses
    noise: float = 0.0  # amplitude of frication
    centre: float = 3000.0  # Hz, of the resonance of noise
    width: float = 1500.0  # Hz


class Voice(NamedTuple):
    """A speaker."""

    pitch: float  # Hz
    tract: float  # factor of all formants: shorter tracts have higher ones
    breath: float  # amplitude of noise added to the pulses


PHONEMES = {
    'z': Phoneme((240, 1390, 2530), 0.08, voice=0.4, noise=0.12, centre=3600, width=800),
    's': Phoneme((320, 1390, 2530), 0.11, noise=0.2, centre=3700, width=700),
    'f': Phoneme((340, 1100, 2080), 0.09, noise=0.06, centre=2500, width=3000),
    'v': Phoneme((220, 1100, 2080), 0.06, voice=0.4, noise=0.04, centre=2500, width=3000),
    'th': Phoneme((320, 1290, 2540), 0.09, noise=0.05, centre=3200, width=2500),
    't': Phoneme((400, 1600, 2600), 0.03, noise=0.25, centre=3500, width=1000),
    'k': Phoneme((300, 1990, 2850), 0.03, noise=0.25, centre=1900, width=500),
    'closure': Phoneme((330, 1800, 2650), 0.06),
    'w': Phoneme((290, 610, 2150), 0.07, voice=0.7),
    'r': Phoneme((310, 1060, 1380), 0.07, voice=0.7),
    'n': Phoneme((300, 1340, 2470), 0.08, voice=0.4),
    'iy': Phoneme((270, 2290, 3010), 0.16, voice=1.0),
    'ih': Phoneme((390, 1990, 2550), 0.08, voice=1.0),
    'e': Phoneme((480, 2000, 2550), 0.09, voice=1.0),
    'eh': Phoneme((530, 1840, 2480), 0.09, voice=1.0),
    'a': Phoneme((730, 1090, 2440), 0.12, voice=1.0),
    'ah': Phoneme((640, 1190, 2390), 0.12, voice=1.0),
    'ax': Phoneme((500, 1500, 2500), 0.06, voice=0.8),
    'ao': Phoneme((570, 840, 2410), 0.15, voice=1.0),
    'o': Phoneme((540, 900, 2400), 0.1, voice=1.0),
    'u': Phoneme((380, 900, 2300), 0.08, voice=0.8),
    'uw': Phoneme((300, 870, 2240), 0.2, voice=1.0),
}
DIGITS = (
    ('z', 'ih', 'r', 'o', 'u'),
    ('w', 'ah', 'n'),
    ('t', 'uw'),
    ('th', 'r', 'iy'),
    ('f', 'ao', 'r'),
    ('f', 'a', 'ih', 'v'),
    ('s', 'ih', 'closure', 'k', 's'),
    ('s', 'eh', 'v', 'ax', 'n'),
    ('e', 'iy', 'closure', 't'),
    ('n', 'a', 'ih', 'n'),
)
VOICES = {
    'bass': Voice(85, 0.92, 0.02),
    'baritone': Voice(110, 1.0, 0.05),
    'tenor': Voice(140, 1.05, 0.03),
    'alto': Voice(190, 1.13, 0.06),
    'soprano': Voice(230, 1.2, 0.04),
    'child': Voice(290, 1.3, 0.08),
}


class Plan(NamedTuple):
    """What clips are made of: N clips of at most P phonemes. Phonemes that are absent have no length."""

    seconds: np.ndarray  # [N, P], lengths of the phonemes
    formants: np.ndarray  # [N, P, 3], Hz
    voice: np.ndarray  # [N, P]
    noise: np.ndarray  # [N, P]
    centre: np.ndarray  # [N, P], Hz
    width: np.ndarray  # [N, P], Hz
    pitch: np.ndarray  # [N, 2], Hz, at the start and at the end
    breath: np.ndarray  # [N]
    background: np.ndarray  # [N], amplitude of white noise as a share of the peak
    hiss: np.ndarray  # [N, 2, samples], uniform in -1..1: noise of the voice, and of the background


def digits(labels: np.ndarray, voices: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
    """Synthesises clips. Each is a pure function of its three numbers, whatever the others are.

    Args:
        labels: int [N], the digits.
        voices: int [N], places in VOICES.
        numbers: int [N], seeds of the variations.

    Returns:
        N clips, float32 [n] at RATE with a peak of 1.
    """
    plan = planned(labels, voices, numbers)
    lengths = np.rint(plan.seconds.sum(1) * RATE).astype(int)
    sound = _sound(plan)
    clips = []
    for clip, length, share, hiss in zip(sound, lengths, plan.background, plan.hiss[:, 1]):
        clip = clip[:length] + share * np.abs(clip[:length]).max() * hiss[:length]
        clips.append(clip / np.abs(clip).max())
    return clips


def planned(labels: np.ndarray, voices: np.ndarray, numbers: np.ndarray) -> Plan:
    """Draws the variations of clips; see `digits` for the arguments."""
    most, samples = max(map(len, DIGITS)), round(LONGEST * RATE)
    made = []
    for label, voice, number in zip(labels, voices, numbers):
        draw = np.random.default_rng([SEED, int(number)])
        speaker = [*VOICES.values()][voice]
        names = DIGITS[label]
        targets = [PHONEMES[name] for name in names + names[-1:] * (most - len(names))]
        seconds = np.array([target.seconds for target in targets]) * (np.arange(most) < len(names))
        seconds = seconds * np.exp(0.25 * draw.standard_normal(most)) * draw.uniform(0.75, 1.35)
        seconds *= min(1, LONGEST / seconds.sum())
        shifts = 0.06 * draw.standard_normal(3) + 0.06 * draw.standard_normal((most, 3))
        reduced = draw.uniform(0, MOST_REDUCED)
        formants = np.array([target.formants for target in targets]) ** (1 - reduced) * np.array(NEUTRAL) ** reduced
        formants = formants * speaker.tract * np.exp(shifts)
        pitch = speaker.pitch * np.exp(0.12 * draw.standard_normal())
        one = Plan(
            seconds,
            formants,
            np.array([target.voice for target in targets]) * np.exp(0.2 * draw.standard_normal(most)),
            np.array([target.noise for target in targets]) * np.exp(0.4 * draw.standard_normal(most)),
            np.array([target.centre for target in targets]) * np.exp(0.05 * draw.standard_normal(most)),
            np.array([target.width for target in targets]),
            pitch * np.exp([0.0, draw.uniform(-0.4, 0.15)]),
            np.array(speaker.breath),
            np.array(10 ** (draw.uniform(*BACKGROUND) / 20)),
            2 * draw.random((2, samples), np.float32) - 1,
        )
        made.append(one)
    return Plan(*map(np.stack, zip(*made)))


def _sound(plan: Plan) -> np.ndarray:
    """Returns the clips without background: float32 [N, samples]."""
    samples = plan.hiss.shape[-1]
    times = (np.arange(samples // STEP) + 0.5) * (STEP / RATE)
    total = plan.seconds.sum(1, keepdims=True)
    fade = np.clip(times / 0.01, 0, 1) * np.clip((total - times) / 0.03, 0, 1)
    amplitudes = (track(times, plan.seconds, values, 0.35) * fade for values in (plan.voice, plan.noise))
    voice, noise = (values.astype(np.float32) for values in amplitudes)
    places = [*np.moveaxis(plan.formants, -1, 0), plan.centre]
    frequency = np.stack([np.exp(track(times, plan.seconds, np.log(place), 0.2)) for place in places])
    width = np.stack([*(np.full_like(voice, width) for width in WIDTHS), track(times, plan.seconds, plan.width, 0.2)])
    pitch = plan.pitch[:, :1] * (plan.pitch[:, 1:] / plan.pitch[:, :1]) ** np.minimum(times / total, 1)
    breath = plan.breath[:, None].astype(np.float32) * plan.hiss[:, 0]
    glottal = np.repeat(voice, STEP, 1) * (pulses(pitch) + breath)
    excitation = np.stack([glottal, np.repeat(noise, STEP, 1) * plan.hiss[:, 0]])
    gain, first, second = resonators(np.minimum(frequency, HIGHEST), width)
    gain[3] = 2 * (1 - np.exp(-np.pi * width[3] / RATE))  # about 1 at the resonance, where cascades have 1 at 0 Hz
    return resonate(excitation, gain, first, second)


def track(times: np.ndarray, seconds: np.ndarray, targets: np.ndarray, hold: float) -> np.ndarray:
    """Moves a parameter along the targets of phonemes: [N, T].

    It stays at a target until `hold` of the length of the phoneme after its middle, and from as long before it. Between
    targets it moves on a line.

    Args:
        times: [T], seconds.
        seconds: [N, P], lengths of the phonemes.
        targets: [N, P].
        hold: share of the length, below 1/2.
    """
    ends = np.cumsum(seconds, 1)
    middles = ends - seconds / 2
    values = np.repeat(targets[:, :1], len(times), 1)
    for number in range(seconds.shape[1] - 1):
        leave = middles[:, number] + hold * seconds[:, number]
        arrive = middles[:, number + 1] - hold * seconds[:, number + 1]
        passed = (times - leave[:, None]) / np.maximum(arrive - leave, 1e-6)[:, None]
        values = values + np.clip(passed, 0, 1) * (targets[:, number + 1] - targets[:, number])[:, None]
    return values


def pulses(pitch: np.ndarray) -> np.ndarray:
    """Returns the derivative of the flow through the glottis: float32 [N, T * STEP].

    Within the open share of a period the flow is u^2 - u^3 (Klatt and Klatt 1990, section I.A), u from 0 to 1.

    Args:
        pitch: [N, T], Hz, constant during each step.
    """
    periods = np.cumsum(pitch, 1) * (STEP / RATE)  # at the end of each step
    start = (periods - pitch * (STEP / RATE)) % 1
    inside = np.arange(1, STEP + 1, dtype=np.float32) / np.float32(RATE)
    phase = start.astype(np.float32)[..., None] + pitch.astype(np.float32)[..., None] * inside
    phase = ((phase - np.floor(phase)) / np.float32(OPEN)).reshape(len(pitch), -1)
    return phase * (2 - 3 * phase) * (phase < 1)


def resonators(frequency: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (a, b, c) of y[t] = a x[t] + b y[t - 1] + c y[t - 2], which has a gain of 1 at 0 Hz (Klatt 1980, eq. 2).

    Args:
        frequency: frequencies of the resonances, Hz.
        width: their bandwidths, Hz.
    """
    second = -np.exp(-2 * np.pi * width / RATE)
    first = 2 * np.exp(-np.pi * width / RATE) * np.cos(2 * np.pi * frequency / RATE)
    return 1 - first - second, first, second


def resonate(excitation: np.ndarray, gain: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Runs all clips at once through three resonators in cascade, and through a fourth: float32 [N, samples].

    A resonator of the cascade takes the sample before from the one ahead of it, so all four move in one step. The delay
    of two samples is not heard.

    Args:
        excitation: [2, N, samples], of the cascade and of the fourth.
        gain, first, second: coefficients [4, N, samples / STEP].
    """
    _, count, samples = excitation.shape
    drive = np.ascontiguousarray(excitation.transpose(2, 0, 1), np.float32)
    gain, first, second = (np.ascontiguousarray(np.moveaxis(part, -1, 0), np.float32) for part in (gain, first, second))
    out = np.empty((samples, count), np.float32)
    before, earlier, inputs = (np.zeros((4, count), np.float32) for _ in range(3))
    for time in range(samples):
        step = time // STEP
        inputs[0], inputs[1:3], inputs[3] = drive[time, 0], before[:2], drive[time, 1]
        now = gain[step] * inputs
        now += first[step] * before
        now += second[step] * earlier
        before, earlier = now, before
        np.add(now[2], now[3], out[time])
    return out.T
