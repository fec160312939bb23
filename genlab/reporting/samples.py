"""Pictures in the report: embedded in the page, thinned evenly over training, the last one always there."""

import base64
import os
import re
from html import escape

KINDS = ('.png', '.gif')
PICTURES = 24
PICTURE_BYTES = 16_000_000  # of all embedded samples together, so that the page stays something to send to a friend


def samples(folder):
    """The newest picture large, a slider over training and a strip to choose from."""
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


def _slider(last, label):
    """What moves the large picture through training; hidden where there is nothing to move through."""
    return (
        f'<div class="slide"{"" if last else " hidden"}><button type="button" id="play">▶ play</button>'
        f'<input type="range" id="slider" min="0" max="{last}" value="{last}" aria-label="Samples over training" '
        f'aria-valuetext="{label}"><output for="slider">{label}</output></div>'
    )


def pictures_of(folder):
    """Paths of the pictures in a folder, by the first number in their names."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(KINDS) and not name.startswith('.')]
    except OSError:
        return []
    order = lambda name: (int((re.search(r'\d+', name) or [0])[0]), name)
    return [os.path.join(folder, name) for name in sorted(names, key=order)]


def _evenly(items, count):
    """At most `count` of the items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def load(paths):
    """[(label, bytes)] of the pictures that are whole, fewer if they are large; the last one always."""
    while len(paths) > 2 and sum(os.path.getsize(path) for path in paths) > PICTURE_BYTES:
        paths = _evenly(paths, max(len(paths) * 3 // 4, 2))
    loaded = []
    for path in paths:
        with open(path, 'rb') as file:
            data = file.read()
        if _whole(data):
            name = os.path.splitext(os.path.basename(path))[0]
            loaded.append((f'step {int(name):,}' if name.isdecimal() else escape(name.replace('_', ' ')), data))
    return loaded


def _whole(data):
    """Whether a PNG or a GIF has its end."""
    return data.startswith(b'\x89PNG') and b'IEND' in data[-12:] or data.startswith(b'GIF8') and data.endswith(b';')


def figures_of(folder):
    """The pictures in a folder, each with its name, as HTML; '' where there are none."""
    figures = ''.join(
        f'<figure class="box">{image(data, label)}<figcaption>{label}</figcaption></figure>'
        for label, data in load(pictures_of(folder))
    )
    return f'<div class="pictures">{figures}</div>' if figures else ''


def image(data, words):
    """A PNG or a GIF inside the page; small ones keep their pixels when they are enlarged. words: HTML."""
    if data.startswith(b'GIF8'):
        kind, (width, height) = 'image/gif', (int.from_bytes(data[at : at + 2], 'little') for at in (6, 8))
    else:
        kind, (width, height) = 'image/png', (int.from_bytes(data[at : at + 4], 'big') for at in (16, 20))
    pixels = ' class="pixels"' if width < 320 else ''
    return (
        f'<img{pixels} alt="{words}" width="{width}" height="{height}" '
        f'src="data:{kind};base64,{base64.b64encode(data).decode()}">'
    )
