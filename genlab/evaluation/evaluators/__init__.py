"""The judges, by the names of `config.evaluate.parts`: each has `applies(subject) -> bool` and `judge(subject) -> Part`."""

from genlab.evaluation.evaluators import anomaly, codes, held_out, points, quality, reconstruction

PARTS = {
    'quality': quality,
    'points': points,
    'held_out': held_out,
    'reconstruction': reconstruction,
    'codes': codes,
    'anomaly': anomaly,
}
