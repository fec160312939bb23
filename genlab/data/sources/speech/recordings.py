"""Reads a folder of recordings in the layout of the Free Spoken Digit Dataset: `{class}_{speaker}_{number}.wav`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genlab.data import audio, fingerprint
from genlab.data.cache import cached
from genlab.data.sources import listing
from genlab.data.sources.decoding import decode_all
from genlab.data.sources.messages import printable, say, some
from genlab.errors import ConfigError, choose

LAYOUT = re.compile(r'([^_]+)_(.+)_(\d+)\.wav', re.IGNORECASE)
TEST = 5  # numbers 0 to 4 are held out, which is the division of that set


class Listing(NamedTuple):
    """The recordings of one split, sorted by path."""

    root: Path
    files: list[str]  # paths from root
    classes: list[str]  # classes of each file
    speakers: np.ndarray  # int32, of each file; numbers in the alphabetical order of all speakers of the folder


class Recordings(NamedTuple):
    """The recordings of one split that can be read."""

    listing: Listing
    speech: np.ndarray  # float32 [N, T, bands]
    lengths: np.ndarray  # int32 [N], frames
    digest: str  # digest of names and contents


def find(place: str, split: str, speaker: str = '') -> Listing:
    """Lists the recordings of a split, at any depth of a folder.

    Args:
        place: the folder.
        split: 'train' or 'test'.
        speaker: who is the test split, and absent from training; '': the numbers 0 to 4 are the test split.
    """
    root, shown = Path(place).expanduser(), f'config.data.dir={printable(place)}'
    if not root.is_dir():
        raise ConfigError(f'{shown} is not a folder: set it to a folder of WAV files')
    paths = (path.relative_to(root) for path in root.rglob('*') if path.suffix.lower() == '.wav')
    every = sorted(path.as_posix() for path in paths if not any(part.startswith('.') for part in path.parts))
    parts = {file: LAYOUT.fullmatch(file.rpartition('/')[2]) for file in every}
    named = {file: found.groups() for file, found in parts.items() if found is not None}
    if not named:
        raise ConfigError(
            f'{shown} has no recordings: name WAV files class_speaker_number.wav, such as 7_jackson_32.wav'
        )
    if other := [file for file in every if file not in named]:
        say(f'{root}: skipped {len(other)} WAV files whose names are not class_speaker_number.wav ({some(other)})')
    speakers = {name: number for number, name in enumerate(sorted({name for _, name, _ in named.values()}))}
    if speaker:
        choose(speakers, speaker, 'config.data.speaker')
    held_out = {file: name == speaker if speaker else int(number) < TEST for file, (_, name, number) in named.items()}
    files = [file for file in named if held_out[file] == (split == 'test')]
    if not files:
        rule = f'config.data.speaker={speaker!r} is' if speaker else f'The numbers 0 to {TEST - 1} are'
        raise ConfigError(
            f'{shown} has no recordings for the {split} split. {rule} the test split: add recordings, or set '
            f'config.data.speaker to {"another" if speaker else "one of several"} of {", ".join(speakers)}'
        )
    return Listing(
        root,
        files,
        [named[file][0] for file in files],
        np.array([speakers[named[file][1]] for file in files], np.int32),
    )


def read(found: Listing, split: str, bands: int) -> Recordings:
    """Computes the features of recordings, once: they are kept in the cache. What cannot be read is left out and named.

    Args:
        found: the recordings.
        split: 'train' or 'test', for messages.
        bands: number of bands of the features.
    """
    root, files = found.root, found.files
    title = f'{printable(root.name)}/{split}'
    key = ['speech', audio.VERSION, str(root), listing.fingerprint(root, files), bands, audio.FRAMES]

    def block(start: int, stop: int) -> dict[str, np.ndarray]:
        return _features(root, files[start:stop], bands)[0]

    arrays = cached(title, key, lambda: decode_all(title, len(files), block))
    kept = np.flatnonzero(arrays['length'] > 0)
    if len(kept) < len(files):
        unread = [files[number] for number in np.flatnonzero(arrays['length'] == 0)]
        faults = _features(root, unread, bands)[1]
        named = some([f'{file} ({reason})' for file, reason in faults.items()])
        if not len(kept):
            raise ConfigError(f'none of the {len(files)} recordings of {title} can be used: {named}: replace them')
        say(f'warning: {root}: left out {len(unread)} of {len(files)} recordings of {title}: {named}')
    left = Listing(root, [files[n] for n in kept], [found.classes[n] for n in kept], found.speakers[kept])
    identity = fingerprint.of_files(root, left.files, left.files, arrays['content'][kept])
    return Recordings(left, arrays['speech'][kept], arrays['length'][kept], identity.digest)


def _features(root: Path, files: Sequence[str], bands: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Computes the features of files.

    Args:
        root: the folder.
        files: N paths from the root.
        bands: number of bands of the features.

    Returns:
        ({'speech': float32 [N, T, bands], 'length': int32 [N], 0 for files that cannot be read, 'content': uint64 [N],
        hashes of the files}, file -> why it cannot be read).
    """
    speech = np.zeros((len(files), audio.FRAMES, bands), np.float32)
    lengths, contents = np.zeros(len(files), np.int32), np.zeros(len(files), np.uint64)
    faults = {}
    for number, file in enumerate(files):
        try:
            content = (root / file).read_bytes()
            contents[number] = fingerprint.of_bytes(content)
            speech[number], lengths[number] = audio.spoken(*audio.decode(content), bands)
        except (OSError, ValueError) as error:
            faults[file] = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return {'speech': speech, 'length': lengths, 'content': contents}, faults
