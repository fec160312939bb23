"""How well a model gives back what it was shown; where it was shown less than the whole, against classical filters."""

import numpy as np

from genlab.evaluation.metrics import filters
from genlab.evaluation.metrics.similarity import psnr, ssim
from genlab.evaluation.subject import Part, Subject
from genlab.run import images
from genlab.sampling import drawing

TUNED, FILTERED, SHOWN = (
    200,
    1000,
    48,
)  # training examples that filters are tuned on; held-out ones that they are tried on


def applies(subject: Subject) -> bool:
    return subject.experiment.reconstruct is not None


def judge(subject: Subject) -> Part:
    """PSNR and SSIM to the originals of images; if the input is an image of their shape but another one, those of the input
    and of the best classical filter too."""
    made, x = _reconstructions(subject, 'test'), subject.x('test')
    pictures = {
        'reconstructions': images.pairs({'x': x[:SHOWN], **{name: made[name][:SHOWN] for name in ('input', 'output')}})
    }
    protocol = {'held_out': len(x)}
    if not subject.images:
        return Part(protocol, {'squared_distance': float(np.square(made['output'] - x).sum(1).mean())}, pictures)
    figures = {'psnr': float(psnr(made['output'], x).mean()), 'ssim': float(ssim(made['output'], x).mean())}
    if made['input'].shape == x.shape and not np.array_equal(made['input'], x):
        noisy, clean, output = (array[:FILTERED] for array in (made['input'], x, made['output']))
        tuned = _tune(subject)
        filtered = {name: smooth(noisy) for name, smooth in tuned.items()}
        figures |= {
            'psnr_of_input': float(psnr(made['input'], x).mean()),
            'ssim_of_input': float(ssim(made['input'], x).mean()),
        }
        figures |= {f'psnr_of_{name}': float(psnr(image, clean).mean()) for name, image in filtered.items()}
        best = max(filtered, key=lambda name: figures[f'psnr_of_{name}'])
        figures |= {
            'psnr_above_filters': float(psnr(output, clean).mean()) - figures[f'psnr_of_{best}'],
            'ssim_of_filters': max(float(ssim(image, clean).mean()) for image in filtered.values()),
        }
        pictures['filters'] = images.pairs(
            {'x': x[:SHOWN], 'input': noisy[:SHOWN], best: filtered[best][:SHOWN], 'output': output[:SHOWN]}
        )
        protocol |= {'filters': f'tuned by PSNR on {TUNED} training examples, tried on {len(noisy)}'}
    return Part(protocol, figures, pictures)


def _reconstructions(subject: Subject, split: str) -> dict[str, np.ndarray]:
    return subject.over(drawing.jitted(subject.experiment.reconstruct), split, 'reconstruct')


def _tune(subject: Subject):
    """The filters with the parameters that are best on training examples corrupted as the held-out ones are."""
    noisy, clean = _reconstructions(subject, 'train')['input'][:TUNED], subject.x('train')[:TUNED]
    return filters.tuned(noisy, clean)
