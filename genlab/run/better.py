"""The figures that have a better direction. Reports read it without JAX, and training keeps a best checkpoint by it."""

import math

LOWER = (
    'frechet_distance',
    'kernel_distance',
    'class_divergence',
    'sliced_wasserstein',
    'nll',
    'nll_bound',
    'nll_importance_weighted',
    'nll_codes',
    'nll_codes_bound',
    'nll_ais',
    'bits_per_dimension',
    'bits_per_dimension_bound',
    'bits_per_dimension_importance_weighted',
    'squared_error',
    'translation_l1',
    'translation_distance',
)
HIGHER = (
    'precision',
    'recall',
    'density',
    'coverage',
    'inception_score',
    'condition_accuracy',
    'condition_probe',
    'condition_kept',
    'modes',
    'high_quality',
    'linear_probe',
    'nmi',
    'ari',
    'mig',
    'dci_disentanglement',
    'dci_completeness',
    'dci_informativeness',
    'factor_vae',
    'angle_correlation',
    'anomaly_auroc',
    'anomaly_aupr',
    'psnr',
    'ssim',
    'psnr_above_filters',
    'scene_kind',
    'scene_colour',
    'scene_place',
    'scene_all',
    'box_accuracy',
    'box_accuracy_ratio',
    'translation_ssim',
    'translation_pixel_accuracy',
    'translation_class_accuracy',
)
BETTER = dict.fromkeys(LOWER, 'lower') | dict.fromkeys(HIGHER, 'higher')  # other figures have no best value


def improves(figure: str, value: object, best: float | None) -> bool:
    """Returns whether a value of a figure is better than the best one so far.

    Args:
      figure: an entry of BETTER.
      value: value of an evaluation. A text, a NaN or an infinity improves nothing.
      best: the best value so far, finite; None if there is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    return best is None or (value < best if BETTER[figure] == 'lower' else value > best)
