"""Reconstructions: PSNR and SSIM, and for denoisers a comparison with classical filters."""

from typing import Any

import numpy as np

from genlab.evaluation.metrics import filters
from genlab.evaluation.metrics.similarity import psnr, ssim
from genlab.evaluation.subject import Part, Subject, compiled
from genlab.run import images

TUNED = 200  # training examples that filters are tuned on
FILTERED = 1000  # held-out examples that filters are applied to
SHOWN = 48  # examples in a picture


def applies(subject: Subject) -> bool:
    """Returns whether the model reconstructs examples."""
    return subject.experiment.reconstruct is not None


def evaluate(subject: Subject) -> Part:
    """Measures PSNR and SSIM between reconstructions and originals.

    If the input is another image of the same shape, as for a denoiser, the input and the best classical filter are
    measured too.
    """
    reconstructed, x = _reconstructions(subject, 'test'), subject.x('test')
    given, output = reconstructed['input'], reconstructed['output']
    shown = {'x': x[:SHOWN], 'input': given[:SHOWN], 'output': output[:SHOWN]}
    pictures = {'reconstructions': images.pairs(shown)}
    protocol: dict[str, Any] = {'held_out': len(x), **subject.modelled}
    if not subject.images:
        return Part(protocol, {'squared_distance': float(np.square(output - x).sum(1).mean())}, pictures)
    figures = {'psnr': float(psnr(output, x).mean()), 'ssim': float(ssim(output, x).mean())}
    if given.shape == x.shape and not np.array_equal(given, x):
        noisy, clean, denoised = given[:FILTERED], x[:FILTERED], output[:FILTERED]
        filtered = {name: smooth(noisy) for name, smooth in _tune(subject).items()}
        figures |= {
            'psnr_of_input': float(psnr(given, x).mean()),
            'ssim_of_input': float(ssim(given, x).mean()),
        }
        figures |= {f'psnr_of_{name}': float(psnr(image, clean).mean()) for name, image in filtered.items()}
        best = max(filtered, key=lambda name: figures[f'psnr_of_{name}'])
        figures |= {
            'psnr_above_filters': float(psnr(denoised, clean).mean()) - figures[f'psnr_of_{best}'],
            'ssim_of_filters': max(float(ssim(image, clean).mean()) for image in filtered.values()),
        }
        pictures['filters'] = images.pairs(
            {'x': x[:SHOWN], 'input': noisy[:SHOWN], best: filtered[best][:SHOWN], 'output': denoised[:SHOWN]}
        )
        protocol |= {'filters': f'tuned by PSNR on {TUNED} training examples, tried on {len(noisy)}'}
    return Part(protocol, figures, pictures)


def _reconstructions(subject: Subject, split: str) -> dict[str, np.ndarray]:
    """Returns {'input', 'output'} for the chosen examples of a split."""
    return subject.over(compiled(subject.experiment.reconstruct), split, 'reconstruct')


def _tune(subject: Subject) -> dict[str, filters.Filter]:
    """Tunes the filters on training examples, which are corrupted as the held-out examples are."""
    noisy, clean = _reconstructions(subject, 'train')['input'][:TUNED], subject.x('train')[:TUNED]
    return filters.tuned(noisy, clean)
