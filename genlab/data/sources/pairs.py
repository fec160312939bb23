"""Loads pairs of images, or images of two domains without pairs, from the layouts that such sets come in.

The two domains have names: `A` and `B`, unless `config.data.name` says otherwise. The first is the field `input`, the
second the field `image`. So `config.data.name=B,A` translates in the other direction.

- Two folders per split, as in `trainA` and `trainB`. Other spellings of the same are `train_A`, `train/A` and
  `A/train`, in any case, with the names of splits that `listing` knows. Folders `A` and `B` without splits are divided
  by a hash of the names. `config.data.name=noto,fluentui` names two parallel folders in the same way.
- One folder of images that hold both domains side by side: A on the left, B on the right. This is the layout of a
  folder that has no folder of either domain. Splits are those of `listing`.

Images of two folders are pairs if both folders have the same names, whatever their extensions. A name is the path below
the folder. The domain at the end of all names, as in `1_A.jpg` and `1_B.jpg`, does not count.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genlab.data import fingerprint
from genlab.data.source import Field, Source, declaration, image_field, unpaired
from genlab.data.sources import listing
from genlab.data.sources.folder import Decoder, Part, read, readable
from genlab.data.sources.listing import HELD_OUT, SPLITS, TRAIN
from genlab.data.sources.messages import printable, say
from genlab.data.sources.walk import root_of, walk
from genlab.errors import ConfigError

FIELDS = ('input', 'image')  # of the first and the second domain
DOMAINS = ('A', 'B')
LENGTH = 2**20  # examples that are declared if the folder is missing


class Domain(NamedTuple):
    """The files of one domain."""

    name: str
    folders: tuple[str, ...]  # where they lie, below the root; () if they are halves of images
    files: Mapping[str, Mapping[str, str]]  # split -> name of an example -> its file


class Layout(NamedTuple):
    """The images of both domains in a folder."""

    root: Path
    input: Domain
    image: Domain
    swapped: bool  # whether the input is the right half, where both are halves of one image
    ignored: Mapping[str, Sequence[str]]  # reason -> paths that are skipped

    @property
    def halves(self) -> bool:
        """Whether an image holds both domains."""
        return not self.input.folders

    def paired(self, split: str) -> bool:
        """Returns whether all examples of a split have a counterpart."""
        return {*self.input.files[split]} == {*self.image.files[split]}


def find(place: str, name: str = '') -> Layout:
    """Finds the layout of a folder and lists its images. Opens none of them.

    Args:
        place: the folder.
        name: the names of the input and of the target domain, separated by a comma; '' for A,B.

    Raises:
        ConfigError: there is no such folder, or the names of its folders and files contradict each other.
    """
    root, names = root_of(place), _names(name)
    files, folders, ignored = walk(root)
    found = _folders(root, files, folders, names)
    if not any(found):
        return _side_by_side(root, names)
    for own, other, domain in zip(found, reversed(found), reversed(names)):
        if lonely := [folder for split, folder in own.items() if split not in other]:
            have = printable(' and '.join(lonely))
            raise ConfigError(f'{printable(str(root))} has {have} and no such folder of {domain}: add it')
    inside = tuple(f'{folder}/' for domain in found for folder in domain.values())
    outside = [file for file in files if not file.startswith(inside)]
    ignored = {**ignored, f'outside {" and ".join(inside)}': outside}
    both = [_domain(root, name, domain, files) for name, domain in zip(names, found)]
    one, two = _divided(_same_names(both))
    return Layout(root, one, two, False, ignored)


def _names(name: str) -> tuple[str, str]:
    """Returns the names of both domains."""
    names = tuple(part.strip(' /') for part in name.split(',')) if name else DOMAINS
    if len(names) != 2 or not all(names) or names[0].casefold() == names[1].casefold():
        raise ConfigError(
            f'config.data.name={name!r}: give the folders of the input and of the target domain, such as '
            "'noto,fluentui'; 'B,A' translates from B to A"
        )
    return names[0], names[1]


def _folders(
    root: Path, files: Sequence[str], folders: Sequence[str], names: tuple[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Finds the folders of both domains, at the top or in a folder that holds everything.

    Args:
        root: the folder, for messages.
        files: paths of the images.
        folders: paths of all folders.
        names: names of the domains.

    Returns:
        Per domain {split: folder}; the split is '' for a folder without splits.
    """
    base = ''
    while True:
        below = {folder[len(base) :]: folder for folder in folders if folder.startswith(base) and folder != base[:-1]}
        filled = {path: folder for path, folder in below.items() if any(f.startswith(f'{folder}/') for f in files)}
        one, two = (_of_domain(root, filled, name) for name in names)
        tops = {path.partition('/')[0] for path in filled if path}
        direct = any('/' not in file[len(base) :] for file in files)
        if one or two or direct or len(tops) != 1:
            return one, two
        base += f'{tops.pop()}/'


def _of_domain(root: Path, filled: Mapping[str, str], name: str) -> dict[str, str]:
    """Returns {split: folder} of a domain, or {'': folder}, or {} if it has no folder.

    Args:
        root: the folder, for messages.
        filled: path -> path from the root, of folders that hold images.
        name: name of the domain.
    """
    word = name.casefold()
    by_path: dict[str, list[str]] = {}
    for path, folder in filled.items():
        by_path.setdefault(path.casefold(), []).append(folder)

    def those(splits: Collection[str]) -> list[str]:
        forms = [
            form
            for split in splits
            for form in (f'{split}{word}', f'{split}_{word}', f'{split}-{word}', f'{split}/{word}', f'{word}/{split}')
        ]
        same = [folder for form in forms for folder in by_path.get(form, [])]
        if len(same) > 1:
            raise ConfigError(
                f'{printable(str(root))}: {printable(" and ".join(same))} are the same split of {name}: merge them, or '
                'move one elsewhere'
            )
        return same

    train, held_out = those(TRAIN), next((same for names in HELD_OUT if (same := those(names))), [])
    if held_out and not train:
        raise ConfigError(
            f'{printable(str(root))} has {printable(held_out[0])} and no training images of {name}: name their folder '
            f'train{name}'
        )
    if train:
        return {'train': train[0], **({'test': held_out[0]} if held_out else {})}
    plain = by_path.get(word, [])
    if len(plain) > 1:
        raise ConfigError(f'{printable(str(root))}: {printable(" and ".join(plain))} differ in case alone: rename one')
    return {'': plain[0]} if plain else {}


def _domain(root: Path, name: str, folders: Mapping[str, str], files: Sequence[str]) -> Domain:
    """Lists the files of a domain. Splits are those of its folders: 'train' alone, if nothing is held out.

    Args:
        root: the folder, for messages.
        name: name of the domain.
        folders: {split: folder}.
        files: paths of all images.
    """
    listed: dict[str, dict[str, str]] = {}
    for split, folder in folders.items():
        own = listed.setdefault(split or 'train', {})
        for file in files:
            if file.startswith(f'{folder}/'):
                example = os.path.splitext(file[len(folder) + 1 :])[0]
                if example in own:
                    raise ConfigError(
                        f'{printable(str(root))}: {printable(f"{own[example]} and {file}")} have the same name: rename '
                        'one, because names make pairs'
                    )
                own[example] = file
    return Domain(name, tuple(folders.values()), listed)


def _same_names(domains: Sequence[Domain]) -> list[Domain]:
    """Returns the domains without their names at the end of the names of examples, if all examples end so."""
    endings = [f'_{domain.name}'.casefold() for domain in domains]
    if not all(
        example.casefold().endswith(ending)
        for domain, ending in zip(domains, endings)
        for examples in domain.files.values()
        for example in examples
    ):
        return [*domains]
    return [
        domain._replace(
            files={
                split: {example[: -len(ending)]: file for example, file in examples.items()}
                for split, examples in domain.files.items()
            }
        )
        for domain, ending in zip(domains, endings)
    ]


def _divided(domains: Sequence[Domain]) -> list[Domain]:
    """Holds out a part of the training examples if there is no folder for it; the same part of both if they pair."""
    if all('test' in domain.files for domain in domains):
        return [*domains]
    return [
        domain._replace(
            files={
                split: {example: examples[example] for example in listing.part_of([*examples], split)}
                for split in SPLITS
            }
        )
        for domain in domains
        for examples in [domain.files['train']]
    ]


def _side_by_side(root: Path, names: tuple[str, str]) -> Layout:
    """Returns the layout of a folder of images that hold both domains."""
    if {name.upper() for name in names} != {*DOMAINS}:
        raise ConfigError(
            f'{printable(str(root))} has no folders {printable(" and ".join(names))} with images: set '
            "config.data.name to two folders in it, or to '' for trainA and trainB or pictures side by side"
        )
    found = listing.images(str(root))
    files = {split: {file: file for file in listing.of_split(found, split)} for split in SPLITS}
    one, two = (Domain(name, (), files) for name in names)
    return Layout(root, one, two, names[0].upper() == DOMAINS[1], found.ignored)


def summary(layout: Layout) -> str:
    """Describes in one line what was found: the layout, the numbers of images, and what was skipped and why."""
    one, two = layout.input, layout.image
    if layout.halves:
        counts = f'{len(one.files["train"]):,} training and {len(one.files["test"]):,} held-out pairs side by side'
        sides = ('right', 'left') if layout.swapped else ('left', 'right')
        what = f'{counts} in one image; input: the {sides[0]} half, image: the {sides[1]} half'
    else:
        folders = [' and '.join(f'{printable(folder)}/' for folder in domain.folders) for domain in (one, two)]
        numbers = {
            split: f'{len(one.files[split]):,}'
            if layout.paired(split)
            else f'{len(one.files[split]):,} and {len(two.files[split]):,} unpaired'
            for split in SPLITS
        }
        counted = 'pairs by equal names' if all(map(layout.paired, SPLITS)) else 'images'
        what = f'{numbers["train"]} training and {numbers["test"]} held-out {counted}'
        what = f'{what}; input: {folders[0]}, image: {folders[1]}'
    return f'{layout.root}: {what}{listing.skipped(layout.ignored)}'


def pairs(
    place: str,
    name: str = '',
    resolution: int = 32,
    channels: int = 3,
    split: str = 'train',
    fields: Sequence[str] = FIELDS,
    paired: bool = True,
) -> Source:
    """Returns a source of pairs of images, or of two domains without pairs.

    Files are decoded, kept, cached and left out as those of `folder`. A pair is left out if either file cannot be read.

    Args:
        place: the folder.
        name: the names of both domains, see `find`.
        resolution: R, pixels per side.
        channels: C, 1 or 3.
        split: 'train' or 'test'.
        fields: `input` or `image` or both. One of them needs no counterparts.
        paired: whether both fields must be pairs; else they are unpaired domains where there are no counterparts.

    Returns:
        A source with the fields, uint8 [R, R, C] each.

    Raises:
        ConfigError: the folder or its images cannot be used, or images without counterparts should be pairs.
    """
    layout = _checked(find(place, name), split, fields, paired)
    decoder = Decoder(resolution, channels, layout.halves)
    if split == 'train':
        say(summary(layout))
        _sides(layout, 'test', decoder)
    sides = dict(zip(FIELDS, _sides(layout, split, decoder)))
    title = f'{printable(layout.root.name)}/{split}'

    def source(*own: str) -> Source:
        gather = {field: _gather(layout, field, sides[field], decoder) for field in own}
        return Source(
            name=title if layout.paired(split) else f'{title} {"".join(own)}',
            fields={field: image_field(resolution, channels) for field in own},
            length=len(sides[own[0]].files),
            rows=lambda indices: {field: rows(indices) for field, rows in gather.items()},
            in_memory=all(sides[field].images is not None for field in own),
            fingerprint=lambda: _identity(layout, split, sides, own),
        )

    return _joined(source, layout.paired(split), fields)


def header(
    place: str,
    name: str = '',
    resolution: int = 32,
    channels: int = 3,
    fields: Sequence[str] = FIELDS,
    paired: bool = True,
) -> Source:
    """Returns the training source of `pairs` with images of zeros: it decodes none, and the folder may be missing."""
    _names(name)
    declared: dict[str, Field] = {field: image_field(resolution, channels) for field in FIELDS}
    if not place or not Path(place).expanduser().is_dir():
        return declaration('pairs', {field: declared[field] for field in fields}, LENGTH, {})
    layout = _checked(find(place, name), 'train', fields, paired)
    title = f'{printable(layout.root.name)}/train'
    lengths = {field: len(domain.files['train']) for field, domain in zip(FIELDS, (layout.input, layout.image))}

    def source(*own: str) -> Source:
        return declaration(title, {field: declared[field] for field in own}, lengths[own[0]], {})

    return _joined(source, layout.paired('train'), fields)


def _joined(source: Callable[..., Source], paired: bool, fields: Sequence[str]) -> Source:
    """Returns one source of the fields: of pairs, or of domains.

    Args:
        source: some of the fields -> their source.
        paired: whether there are counterparts.
        fields: one or two of FIELDS.
    """
    wanted = [field for field in FIELDS if field in fields]
    if paired or len(wanted) == 1:
        return source(*wanted)
    return unpaired(source('image'), source('input'))


def _checked(layout: Layout, split: str, fields: Sequence[str], paired: bool) -> Layout:
    """Returns the layout; raises ConfigError if images should be pairs and are not."""
    if paired and {*FIELDS} <= {*fields} and not layout.paired(split):
        one, two = layout.input.files[split], layout.image.files[split]
        lonely = [*(one[name] for name in one if name not in two), *(two[name] for name in two if name not in one)]
        raise ConfigError(
            f'{printable(str(layout.root))}: the names of the {split} images in {layout.input.name} and '
            f'{layout.image.name} are not pairs: {len(lonely):,} of {len(one) + len(two):,} files have no counterpart, '
            f'such as {printable(lonely[0])}: give pairs the same names, or set config.data.unpaired=input to draw '
            'both domains independently'
        )
    return layout


def _sides(layout: Layout, split: str, decoder: Decoder) -> tuple[Part, Part]:
    """Decodes both domains of a split: the input and the image. Pairs are in the same order."""
    one, two = layout.input.files[split], layout.image.files[split]
    names = sorted(one)
    try:
        first = readable(layout.root, [one[name] for name in names], split, decoder)
    except ConfigError as error:
        if not layout.halves:
            raise
        raise ConfigError(f'{error}; for pairs in two folders set config.data.name to their names') from None
    if layout.halves:
        return first, first
    second = readable(layout.root, [two[name] for name in sorted(two)], split, decoder)
    if not layout.paired(split):
        return first, second
    left = [{*part.files} for part in (first, second)]
    good = {name for name in names if one[name] in left[0] and two[name] in left[1]}
    lost = len(left[0]) + len(left[1]) - 2 * len(good)
    if lost:
        say(f'warning: {layout.root}: left out {lost} {split} images whose counterparts cannot be read')
    if not good:
        raise ConfigError(f'{printable(str(layout.root))}: no pair of the {split} images can be read: replace them')
    return _kept(first, {one[name] for name in good}), _kept(second, {two[name] for name in good})


def _kept(part: Part, files: Collection[str]) -> Part:
    """Returns the images of some files."""
    if len(files) == len(part.files):
        return part
    left = [n for n, file in enumerate(part.files) if file in files]
    images = None if part.images is None else part.images[left]
    return Part([part.files[n] for n in left], part.contents[left], images)


def _gather(layout: Layout, field: str, part: Part, decoder: Decoder) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from indices [N] to the pictures of a field, uint8 [N, R, R, C]."""
    side = int((field == 'image') != layout.swapped)

    def rows(indices: np.ndarray) -> np.ndarray:
        if part.images is not None:
            return np.take(part.images[:, side] if layout.halves else part.images, indices, axis=0)
        found = np.stack([read(layout.root, part.files[index], decoder) for index in indices])
        return found[:, side] if layout.halves else found

    return rows


def _identity(layout: Layout, split: str, sides: Mapping[str, Part], own: Sequence[str]) -> fingerprint.Fingerprint:
    """Returns the fingerprint of pairs, whichever of their fields are read, or of a domain without pairs."""

    def of(field: str) -> fingerprint.Fingerprint:
        files = sides[field].files
        note = f'right is {"input" if layout.swapped else "image"}' if layout.halves else field
        return fingerprint.of_files(layout.root, files, [note] * len(files), sides[field].contents)

    if not layout.paired(split) or layout.halves:
        return of(own[0])
    return fingerprint.side_by_side(of('input'), of('image'))
