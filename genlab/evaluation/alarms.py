"""What figures say of the failures that everyone meets: a sentence each, with the number and with what usually helps.

Each rule takes the figures by name and says nothing where it has no number to go by.
"""

import numbers
from collections.abc import Mapping

MORE_DIVERSE = 'a penalty on the critic (r1), differentiable augmentation or a smaller learning rate usually helps'


def alarms(figures: Mapping) -> list[str]:
    """One line for each failure, in the order of their gravity; figures: name -> number, or a word why there is none."""
    known = {name: value for name, value in figures.items() if isinstance(value, numbers.Real)}
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


def _has(figures, *names):
    return all(name in figures for name in names)


def _finite(figures):
    if _has(figures, 'finite') and figures['finite'] < 1:
        return (
            'Some samples are not finite numbers, so the other figures mean little: a smaller learning rate, '
            'clipped gradients or an earlier checkpoint usually helps.'
        )


def _modes(figures):
    if _has(figures, 'modes', 'of_modes') and figures['modes'] < figures['of_modes'] / 2:
        return (
            f'Only {figures["modes"]} of {figures["of_modes"]} modes of the data were found: '
            f'the generator collapses; {MORE_DIVERSE}.'
        )


def _largest_share(figures):
    """Three times a fair share, unless the histogram is that of the data, which may be as uneven."""
    classes, divergence = figures['classes'], figures.get('class_divergence', 1)
    if not classes or not _has(figures, 'largest_share') or divergence <= 0.1:
        return None
    if figures['largest_share'] > min(0.9, 3 / classes):
        return (
            f'One class has {figures["largest_share"]:.0%} of the samples, where a fair share of {classes} classes is '
            f'{1 / classes:.0%}: the generator collapses; {MORE_DIVERSE}.'
        )


def _class_divergence(figures):
    if _has(figures, 'class_divergence') and figures['class_divergence'] > 0.5:
        return (
            f'The classes of the samples are {figures["class_divergence"]:.2f} nats (KL) from those of the data, '
            f'more than 0.5: classes are missing; {MORE_DIVERSE}.'
        )


def _within_class(figures):
    if _has(figures, 'ms_ssim') and figures['ms_ssim'] > 0.9:
        return (
            f'Samples of one class have a mean MS-SSIM of {figures["ms_ssim"]:.2f} with each other, more than 0.9: '
            f'they are nearly one image; {MORE_DIVERSE}.'
        )


def _recall(figures):
    if _has(figures, 'recall') and figures['recall'] < 0.1:
        return (
            f'Recall is {figures["recall"]:.2f}: fewer than a tenth of the real examples lie among the samples, which are '
            f'too alike (less truncation or guidance helps) or not yet like the data (training longer helps).'
        )


def _coverage(figures):
    if _has(figures, 'coverage') and figures['coverage'] < 0.1:
        return (
            f'Coverage is {figures["coverage"]:.2f}: fewer than a tenth of the real examples have a sample near them; '
            f'training longer usually helps, unless the samples are all alike.'
        )


def _codebook(figures):
    if _has(figures, 'codebook_used') and figures['codebook_used'] < 0.1:
        return (
            f'Only {figures["codebook_used"]:.1%} of the codebook is used, most entries are dead: starting entries from '
            f'data, restarting dead ones or a smaller codebook usually helps.'
        )


def _posterior(figures):
    if _has(figures, 'active_units', 'of_units') and figures['active_units'] < 0.05 * figures['of_units']:
        return (
            f'Only {figures["active_units"]} of {figures["of_units"]} units of the code are active, the posterior '
            f'collapses to the prior: a ramp on the weight of kl, free bits or a weaker decoder usually helps.'
        )
