"""Pictures in the report, embedded in the page: an even selection over training that includes the last one."""

import base64
import os
import re
from collections.abc import Sequence
from html import escape
from typing import TypeVar

Item = TypeVar('Item')

KINDS = ('.png', '.gif')
PICTURES = 24
PICTURE_BYTES = 16_000_000  # of all embedded samples together, so that the page can be sent by mail


def samples(folder: str) -> str:
    """Returns HTML with the newest picture, a slider over training and a strip of thumbnails; '' without pictures."""
    pictures = load(_evenly(pictures_of(folder), PICTURES))
    if not pictures:
        return ''
    strip = ''.join(
        f'<button type="button" title="{label}" aria-current="{str(i == len(pictures) - 1).lower()}">'
        f'{image(data, f"samples, {label}")}{label.removeprefix("step ")}</button>'
        for i, (label, data) in enumerate(pictures)
    )
    last, data = pictures[-1]
    large = f'<figure class="hero">{image(data, f"samples, {last}")}{_slider(len(pictures) - 1, last)}</figure>'
    return (
        f'<div class="bar"><h2>Samples</h2></div><div class="box samples">{large}<div class="strip">{strip}</div></div>'
    )


def _slider(last: int, label: str) -> str:
    """Returns the slider over pictures 0 to `last`, hidden if there is only one."""
    return (
        f'<div class="slide"{"" if last else " hidden"}><button type="button" id="play">▶ play</button>'
        f'<input type="range" id="slider" min="0" max="{last}" value="{last}" aria-label="Samples over training" '
        f'aria-valuetext="{label}"><output for="slider">{label}</output></div>'
    )


def pictures_of(folder: str) -> list[str]:
    """Returns the paths of the pictures in a folder, sorted by the first number in their names."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(KINDS) and not name.startswith('.')]
    except OSError:
        return []
    order = lambda name: (int((re.search(r'\d+', name) or [0])[0]), name)
    return [os.path.join(folder, name) for name in sorted(names, key=order)]


def _evenly(items: Sequence[Item], count: int) -> Sequence[Item]:
    """Selects at most `count` items, evenly spaced, including the first and the last."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def load(paths: Sequence[str]) -> list[tuple[str, bytes]]:
    """Reads the complete pictures as [(label as HTML, bytes)]. If they are large, reads fewer, including the last.

    A picture that cannot be read is left out.
    """
    while len(paths) > 2 and sum(map(_size, paths)) > PICTURE_BYTES:
        paths = _evenly(paths, max(len(paths) * 3 // 4, 2))
    loaded = []
    for path in paths:
        try:
            with open(path, 'rb') as file:
                data = file.read()
        except OSError:
            continue
        if _whole(data):
            name = os.path.splitext(os.path.basename(path))[0]
            loaded.append((f'step {int(name):,}' if name.isdecimal() else escape(name.replace('_', ' ')), data))
    return loaded


def _size(path: str) -> int:
    """Returns the bytes of a file, 0 if it is gone."""
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _whole(data: bytes) -> bool:
    """Returns whether a PNG or a GIF is complete."""
    return data.startswith(b'\x89PNG') and b'IEND' in data[-12:] or data.startswith(b'GIF8') and data.endswith(b';')


def figures_of(folder: str) -> str:
    """Returns the pictures in a folder with their names, as HTML; '' without pictures."""
    figures = ''.join(
        f'<figure class="box">{image(data, label)}<figcaption>{label}</figcaption></figure>'
        for label, data in load(pictures_of(folder))
    )
    return f'<div class="pictures">{figures}</div>' if figures else ''


def image(data: bytes, words: str) -> str:
    """Embeds a PNG or a GIF. Small ones are enlarged without interpolation. words: the alternative text, as HTML."""
    if data.startswith(b'GIF8'):
        kind, (width, height) = 'image/gif', (int.from_bytes(data[at : at + 2], 'little') for at in (6, 8))
    else:
        kind, (width, height) = 'image/png', (int.from_bytes(data[at : at + 4], 'big') for at in (16, 20))
    pixels = ' class="pixels"' if width < 320 else ''
    return (
        f'<img{pixels} alt="{words}" width="{width}" height="{height}" '
        f'src="data:{kind};base64,{base64.b64encode(data).decode()}">'
    )
