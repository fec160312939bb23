"""The evaluators, by the names in `config.evaluate.parts`.

Each is a module with `applies(subject) -> bool` and `evaluate(subject) -> Part`.
"""

from typing import Any

from genlab.evaluation.evaluators import (
    anomaly,
    codes,
    held_out,
    layouts,
    points,
    quality,
    reconstruction,
    scenes,
    stacked,
    translation,
)

PARTS: dict[str, Any] = {
    'quality': quality,
    'points': points,
    'stacked': stacked,
    'scenes': scenes,
    'layouts': layouts,
    'translation': translation,
    'held_out': held_out,
    'reconstruction': reconstruction,
    'codes': codes,
    'anomaly': anomaly,
}
