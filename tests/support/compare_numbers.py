"""Compares two folders of recorded numbers (support.numbers), file by file and group by group.

    python -m support.compare_numbers old_dir new_dir [--rename file.json] [--only name ...] [--tolerance 1e-6] \
        [--keys 3]

A rename maps prefixes of new key paths to old ones. A prefix is of whole parts, of the full key ('final/params/net/a')
or of what follows the group ('net/a': then it holds in init/params, final/params, final/stats, measure, ... alike); of
those that fit the longest is taken, and each key is renamed once. Relative differences are over max(1, |old|); above
the tolerance they are flagged. The keys of groups that one side has nothing of at all are counted, not listed. What of
init/ the new side lacks is no difference. Exit status 1 if any file differs.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

TOLERANCE = 1e-6
DEEP = ('init/params', 'init/stats', 'init/average', 'final/params', 'final/stats', 'final/average')


def group(key):
    """The group of a key: 'metrics', 'final/params', 'measure', ..."""
    return next((deep for deep in DEEP if key.startswith(f'{deep}/')), key.split('/')[0])


def renamed(key, rename):
    """The old name of a new key."""
    head = group(key)
    rest = key[len(head) + 1 :]
    fits = []
    for prefix, old in rename.items():
        new_prefix, old_prefix = prefix.strip('/'), old.strip('/')
        for lead, text in (('', key), (f'{head}/', rest)):
            if text == new_prefix or text.startswith(f'{new_prefix}/'):
                tail = text[len(new_prefix) :]
                fits.append(
                    (len(new_prefix), f'{lead}{old_prefix}{tail}' if old_prefix else f'{lead}{tail.lstrip("/")}')
                )
    return max(fits)[1] if fits else key


def difference(old, new):
    """Returns the largest absolute and relative difference; infinite where shapes or the places of NaN differ."""
    if old.shape != new.shape:
        return np.inf, np.inf
    if not old.size:
        return 0.0, 0.0
    old, new = old.astype(np.float64), new.astype(np.float64)
    with np.errstate(invalid='ignore'):
        same = (old == new) | (np.isnan(old) & np.isnan(new))
        absolute = np.where(same, 0.0, np.abs(new - old))
        relative = np.where(same, 0.0, absolute / np.maximum(1.0, np.abs(old)))
    absolute, relative = (np.where(np.isnan(value), np.inf, value) for value in (absolute, relative))
    return float(absolute.max()), float(relative.max())


def compare(old_npz, new_npz, rename: dict[str, str], tolerance: float = TOLERANCE, keys: int = 3):
    """(the groups that differ or lack keys, lines that say how) of two files."""
    with np.load(old_npz) as old_file, np.load(new_npz) as new_file:
        old = {key: old_file[key] for key in old_file.files}
        given = {key: renamed(key, rename) for key in new_file.files}
        new, clashes = {}, []
        for key, name in given.items():
            if name in new:
                clashes.append(f'  RENAMED TWICE to {name}: {key}')
            new[name] = new_file[key]
    old_groups, new_groups = {group(key) for key in old}, {group(key) for key in new}
    bad, lines = dict.fromkeys(['rename'] if clashes else []), clashes
    for side, missing, all_groups in (
        ('new', sorted({*old} - {*new}), new_groups),
        ('old', sorted({*new} - {*old}), old_groups),
    ):
        for name in dict.fromkeys(group(key) for key in missing):
            lacking = [key for key in missing if group(key) == name]
            if (
                side == 'new'
                and name.startswith('init/')
                and not any(other.startswith('init/') for other in all_groups)
            ):
                lines.append(f'  the new side has no {name} (no difference)')
                continue
            bad[f'{name}(missing)'] = None
            if name not in all_groups:
                lines.append(f'  MISSING on the {side} side: all {len(lacking)} of {name}')
            else:
                lines += [f'  MISSING on the {side} side: {key}' for key in lacking]
    for name in dict.fromkeys(group(key) for key in old if key in new):
        shared = [key for key in old if key in new and group(key) == name]
        found = {key: difference(old[key], new[key]) for key in shared}
        shapes = [key for key in shared if old[key].shape != new[key].shape]
        absolute, relative = max(pair[0] for pair in found.values()), max(pair[1] for pair in found.values())
        over = sorted((key for key in shared if found[key][1] > tolerance), key=lambda key: -found[key][1])
        if over:
            bad[name] = None
        how = 'bit-equal' if absolute == 0 else f'absolute {absolute:.2e}, relative {relative:.2e}'
        lines.append(
            f'  {name:14} {len(shared):4} arrays  {how}' + (f'  <-- {len(over)} above {tolerance:g}' if over else '')
        )
        lines += [
            f'      {found[key][0]:.2e} {found[key][1]:.2e}  {key}'
            + (f'  SHAPES old {old[key].shape} new {new[key].shape}' if key in shapes else '')
            for key in over[:keys]
        ]
    return list(bad), lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('old', type=pathlib.Path)
    parser.add_argument('new', type=pathlib.Path)
    parser.add_argument('--rename', type=pathlib.Path, help='JSON: prefix of new key paths -> of old ones')
    parser.add_argument('--only', nargs='*', help='names of files, without .npz, or beginnings of them')
    parser.add_argument('--tolerance', type=float, default=TOLERANCE)
    parser.add_argument('--keys', type=int, default=3, help='the worst keys to name in each group')
    parser.add_argument('--quiet', action='store_true', help='only the summary lines')
    options = parser.parse_args()
    rename = json.loads(options.rename.read_text()) if options.rename else {}
    names = sorted({path.stem for folder in (options.old, options.new) for path in folder.glob('[!.]*.npz')})
    if options.only:
        names = [name for name in names if any(name.startswith(only) for only in options.only)]
    fine = 0
    for name in names:
        old, new = options.old / f'{name}.npz', options.new / f'{name}.npz'
        if not (old.exists() and new.exists()):
            print(f'{name}: MISSING in {options.new if old.exists() else options.old}')
            continue
        bad, lines = compare(old, new, rename, options.tolerance, options.keys)
        if not options.quiet:
            print(f'{name}', *lines, sep='\n')
        print(f'{name}: ' + (f'DIFF {" ".join(bad)}' if bad else 'OK'))
        fine += not bad
    print(f'{fine} of {len(names)} OK')
    sys.exit(fine != len(names) or not names)


if __name__ == '__main__':
    main()
