"""Alarms: one sentence per common failure, with the figure and the usual remedy.

Each rule takes the figures by name, and returns None if its figures are missing or fine.
"""

import numbers
from collections.abc import Mapping
from typing import Any

MORE_DIVERSE = 'a gradient penalty (r1), differentiable augmentation or a smaller learning rate usually helps'

Figures = Mapping[str, Any]


def alarms(figures: Figures) -> list[str]:
    """Returns one line per failure, most severe first.

    figures: name -> number, or a text that says why there is no number.
    """
    known: dict[str, Any] = {name: value for name, value in figures.items() if isinstance(value, numbers.Real)}
    shares = figures.get('class_share')
    known['classes'] = len(shares) if isinstance(shares, Mapping) else 0
    rules = (
        _finite,
        _modes,
        _largest_share,
        _class_divergence,
        _within_class,
        _recall,
        _coverage,
        _codebook,
        _posterior,
    )
    return [line for rule in rules if (line := rule(known))]


def _has(figures: Figures, *names: str) -> bool:
    """Returns whether all figures are known."""
    return all(name in figures for name in names)


def _finite(figures: Figures) -> str | None:
    if _has(figures, 'finite') and figures['finite'] < 1:
        return (
            'Some samples are not finite numbers, so the other figures mean little: a smaller learning rate, '
            'gradient clipping or an earlier checkpoint usually helps.'
        )
    return None


def _modes(figures: Figures) -> str | None:
    if _has(figures, 'modes', 'of_modes') and figures['modes'] < figures['of_modes'] / 2:
        covered = f'Only {figures["modes"]} of {figures["of_modes"]} modes of the data are covered'
        if figures.get('high_quality', 1) < 0.25:
            return (
                f'{covered}, and only {figures["high_quality"]:.0%} of the samples lie at a mode: the samples are not '
                f'yet close to the data (training longer helps), or the generator fails ({MORE_DIVERSE}).'
            )
        return f'{covered}: mode collapse; {MORE_DIVERSE}.'
    return None


def _largest_share(figures: Figures) -> str | None:
    """Returns an alarm above three times an equal share, unless the histogram matches the data, however uneven."""
    classes, divergence = figures['classes'], figures.get('class_divergence', 1)
    if not classes or not _has(figures, 'largest_share') or divergence <= 0.1:
        return None
    if figures['largest_share'] > min(0.9, 3 / classes):
        return (
            f'One class has {figures["largest_share"]:.0%} of the samples, where an equal share of {classes} classes '
            f'is {1 / classes:.0%}: mode collapse; {MORE_DIVERSE}.'
        )
    return None


def _class_divergence(figures: Figures) -> str | None:
    if _has(figures, 'class_divergence') and figures['class_divergence'] > 0.5:
        return (
            f'The class histogram of the samples is {figures["class_divergence"]:.2f} nats (KL) from the data, '
            f'more than 0.5: classes are missing; {MORE_DIVERSE}.'
        )
    return None


def _within_class(figures: Figures) -> str | None:
    if _has(figures, 'ms_ssim') and figures['ms_ssim'] > 0.9:
        return (
            f'Samples of one class have a mean MS-SSIM of {figures["ms_ssim"]:.2f} with each other, more than 0.9: '
            f'they are nearly identical; {MORE_DIVERSE}.'
        )
    return None


def _recall(figures: Figures) -> str | None:
    if _has(figures, 'recall') and figures['recall'] < 0.1:
        return (
            f'Recall is {figures["recall"]:.2f}: fewer than a tenth of the real examples lie among the samples. '
            'The samples are too similar (less truncation or guidance helps) or not yet close to the data (training '
            'longer helps).'
        )
    return None


def _coverage(figures: Figures) -> str | None:
    if _has(figures, 'coverage') and figures['coverage'] < 0.1:
        return (
            f'Coverage is {figures["coverage"]:.2f}: fewer than a tenth of the real examples have a sample near them; '
            f'training longer usually helps, unless the samples are all similar.'
        )
    return None


def _codebook(figures: Figures) -> str | None:
    if _has(figures, 'codebook_used') and figures['codebook_used'] < 0.1:
        return (
            f'Only {figures["codebook_used"]:.1%} of the codebook is used, most entries are dead: initialising entries '
            f'from data, restarting dead entries or a smaller codebook usually helps.'
        )
    return None


def _posterior(figures: Figures) -> str | None:
    if _has(figures, 'active_units', 'of_units') and figures['active_units'] < 0.05 * figures['of_units']:
        return (
            f'Only {figures["active_units"]} of {figures["of_units"]} units of the code are active, which is '
            f'posterior collapse: a ramp on the weight of kl, free bits or a weaker decoder usually helps.'
        )
    return None
