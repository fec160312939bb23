"""Sums of metrics, kept on the device between two lines of the log, so that no step waits for the host."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Total(NamedTuple):
    """Of one metric since the last line. Scalars."""

    sum: jax.Array  # float32, of the finite values
    count: jax.Array  # int32, of the finite values
    first_bad: jax.Array  # int32, the first step whose value was not finite, -1 if none


def zero(names) -> dict[str, Total]:
    """Nothing summed yet."""
    return {name: Total(np.float32(0), np.int32(0), np.int32(-1)) for name in names}


def add(totals: Mapping[str, Total], metrics: Mapping[str, jax.Array], step: jax.Array) -> dict[str, Total]:
    """Returns the totals with one step's metrics (scalars) added. A metric that the step did not compute is not counted."""

    def one(total: Total, value: jax.Array) -> Total:
        finite = jnp.isfinite(value)
        first_bad = jnp.where((total.first_bad < 0) & ~finite, step, total.first_bad)
        return Total(total.sum + jnp.where(finite, value, 0), total.count + finite, first_bad)

    return {name: one(total, metrics[name]) if name in metrics else total for name, total in totals.items()}


def means(totals: Mapping[str, Total]) -> dict[str, float]:
    """Returns the mean of each metric over its finite values, from host totals.

    It is NaN where none of the values was finite. A metric without any value is left out: a lazy term that was not due."""
    return {
        name: float(total.sum) / int(total.count) if total.count else math.nan
        for name, total in totals.items()
        if total.count or total.first_bad >= 0
    }


def first_bad(totals: Mapping[str, Total]) -> tuple[int, str] | None:
    """Host totals -> the first step with a value that is not finite, and the metric it was; None if all were finite.

    Of the metrics that went bad on that step a term is named before the sums made of terms."""
    last = ('loss', 'gradient_norm')
    bad = [
        (int(total.first_bad), last.index(name.split('/')[-1]) + 1 if name.endswith(last) else 0, name)
        for name, total in totals.items()
        if total.first_bad >= 0
    ]
    return (min(bad)[0], min(bad)[2]) if bad else None


def to_plain(totals: Mapping[str, Total]) -> dict[str, list]:
    """Host totals as JSON keeps them, exactly."""
    return {name: [float(total.sum), int(total.count), int(total.first_bad)] for name, total in totals.items()}


def from_plain(plain: Mapping[str, list]) -> dict[str, Total]:
    """The inverse of `to_plain`."""
    return {name: Total(np.float32(sum), np.int32(count), np.int32(bad)) for name, (sum, count, bad) in plain.items()}


def accumulate(step: Callable) -> Callable:
    """A training step `(state, batches, key)` -> `((state, totals), batches, key) -> (state, totals)`."""

    def run(carry: tuple[Any, dict], batches, key):
        state, totals = carry
        at = state.step
        state, metrics = step(state, batches, key)
        return state, add(totals, metrics, at)

    return run
