"""Sums metrics on the device between two lines of the log, so that no step waits for the host."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Total(NamedTuple):
    """The total of one metric since the last line. All fields are scalars."""

    sum: jax.Array | np.float32  # sum of the finite values
    count: jax.Array | np.int32  # type: ignore[assignment]  # number of finite values; hides `tuple.count`
    first_bad: jax.Array | np.int32  # the first step whose value was not finite, -1 if there is none


def zero(names: Iterable[str]) -> dict[str, Total]:
    """Returns totals over no steps, as host scalars."""
    return {name: Total(np.float32(0), np.int32(0), np.int32(-1)) for name in names}


def add(totals: Mapping[str, Total], metrics: Mapping[str, jax.Array], step: jax.Array) -> dict[str, Total]:
    """Adds the metrics of one step to the totals.

    Args:
      totals: metric -> total.
      metrics: metric -> value of the step, scalar; one that is missing is not counted.
      step: int32 scalar, the number of the step.
    """

    def one(total: Total, value: jax.Array) -> Total:
        finite = jnp.isfinite(value)
        first_bad = jnp.where((total.first_bad < 0) & ~finite, step, total.first_bad)
        return Total(total.sum + jnp.where(finite, value, 0), total.count + finite, first_bad)

    return {name: one(total, metrics[name]) if name in metrics else total for name, total in totals.items()}


def means(totals: Mapping[str, Total]) -> dict[str, float]:
    """Returns the mean of each metric over its finite values, from host totals.

    It is NaN if none of the values was finite. A metric without any value, such as a lazy term that was not due, is
    left out."""
    return {
        name: float(total.sum) / int(total.count) if total.count else math.nan
        for name, total in totals.items()
        if total.count or total.first_bad >= 0
    }


def first_bad(totals: Mapping[str, Total]) -> tuple[int, str] | None:
    """Returns (step, metric) of the first value that was not finite, or None. The totals must be on the host.

    If several metrics failed at that step, a term of the loss takes precedence over the loss and the gradient norm.
    """
    last = ('loss', 'gradient_norm')
    bad = [
        (int(total.first_bad), last.index(name.split('/')[-1]) + 1 if name.endswith(last) else 0, name)
        for name, total in totals.items()
        if total.first_bad >= 0
    ]
    return (min(bad)[0], min(bad)[2]) if bad else None


def to_plain(totals: Mapping[str, Total]) -> dict[str, list]:
    """Converts totals on the host to plain JSON values [sum, count, first_bad], without loss."""
    return {name: [float(total.sum), int(total.count), int(total.first_bad)] for name, total in totals.items()}


def from_plain(plain: Mapping[str, list]) -> dict[str, Total]:
    """Inverts `to_plain`."""
    return {name: Total(np.float32(sum), np.int32(count), np.int32(bad)) for name, (sum, count, bad) in plain.items()}


def accumulate(step: Callable) -> Callable:
    """Wraps a training step so that it also adds its metrics to the totals.

    Args:
      step: `(state, batches, key) -> (state, metrics)`.

    Returns:
      A function `((state, totals), batches, key) -> (state, totals)`.
    """

    def run(carry: tuple[Any, dict], batches, key):
        state, totals = carry
        at = state.step
        state, metrics = step(state, batches, key)
        return state, add(totals, metrics, at)

    return run
