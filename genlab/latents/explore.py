"""What lies between and around the codes of a model: every tool that it can serve, as pictures and figures."""

from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import conditioning, data
from genlab.errors import UserError, warn
from genlab.evaluation.features import classifier
from genlab.experiment import Experiment
from genlab.latents import directions, inversion, strips, traversal
from genlab.latents.codes import Codes, learn
from genlab.latents.interpolation import linear, path, spherical
from genlab.run import images
from genlab.sampling import drawing
from genlab.training import parallel
from genlab.training.state import State

FRAMES = 4  # of an animation, for each step of a strip
RESTARTS = 4  # codes that an inversion begins from
CANDIDATES = 64  # dimensions whose effect is looked at
CLASSES = 10  # that have a row in the picture of their directions
VERSIONS = 4  # of each image that is inpainted or redrawn


class Explored(NamedTuple):
    """What was seen."""

    pictures: dict[str, np.ndarray]  # name -> uint8 [H, W, C]
    animations: dict[str, np.ndarray]  # name -> uint8 [T, H, W, C]
    figures: dict[str, Any]  # name -> number, or place -> number


def explore(config: ConfigDict, experiment: Experiment, placement: parallel.Placement, state: State) -> Explored:
    """Everything that the abilities of a model allow. Averaged weights are used."""
    codec = experiment.codec
    if codec is None or not (codec.encode or codec.prior) or not (codec.decode or codec.entries):
        raise UserError(
            f'a model of config.experiment={config.experiment!r} has no codes that it could decode: there is '
            'nothing to explore; --mode=evaluate shows what it can'
        )
    if codec.entries:
        if codec.continuous is None:
            warn('its codes are entries of a codebook: there is nothing between them to explore')
            return Explored({}, {}, {})
        codec = codec.continuous  # codes before quantisation, which `decode` quantises
    variables = state.variables(averaged=True)
    codes, source = learn(config, codec, placement, variables), data.load(config.data, 'test')
    held_out = drawing.examples(config)(np.arange(max(4 * config.explore.pairs, config.explore.inversions)))
    beside = drawing.reference(source, config)
    parts = [interpolate(config, codes, held_out, beside), traverse(config, codes, held_out, beside)]
    if config.explore.inversions:
        parts.append(invert(config, codec, placement, variables, codes, held_out))
    if codes.decoded.ndim == 4:
        judge = classifier.load(config.data) if has_classes(source, config) else None
        parts += [
            thicken(config, codes, held_out),
            classes(config, codes, held_out, judge),
            mix(config, codes, held_out),
            edit(config, experiment, placement, variables),
        ]
    return Explored(*({name: value for part in parts for name, value in part[kind].items()} for kind in range(3)))


def has_classes(source: data.Source, config: ConfigDict) -> bool:
    """Whether a classifier can say what an image is of."""
    return 'label' in source.fields and source.fields['label'].high > 0 and config.data.observe == 'image'


def interpolate(config, codes: Codes, held_out, beside) -> Explored:
    """Paths between held-out examples of different classes, straight, and between draws from the prior, spherical."""
    steps, count = config.explore.steps, config.explore.pairs
    ends = {}
    if codes.encode:
        encoded = codes.encode(held_out)
        first, second = pair_up(np.asarray(held_out.get('label', np.zeros(len(encoded)))), count)
        ends['interpolation_data'] = encoded[first], encoded[second], linear
    if codes.prior:
        drawn = codes.prior(2 * count)
        ends['interpolation_prior'] = drawn[:count], drawn[count:], spherical
    pictures, animations = {}, {}
    for name, (a, b, between) in ends.items():
        decoded = codes.decode_all(np.asarray(path(a, b, FRAMES * (steps - 1) + 1, between)))
        shown = decoded if decoded.ndim == 3 else decoded[:, ::FRAMES]
        pictures[name], animations[name] = strips.strip(shown, beside), strips.frames(decoded, beside)
    return Explored(pictures, animations, {})


def pair_up(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices [count] and [count] of examples that follow each other, of different classes while there are such."""
    left, pairs = list(range(len(labels))), []
    while len(pairs) < count and len(left) > 1:
        first = left.pop(0)
        second = next((other for other in left if labels[other] != labels[first]), left[0])
        left.remove(second)
        pairs.append((first, second))
    first, second = np.array(pairs).T
    return first, second


def starts(codes: Codes, held_out, count: int) -> np.ndarray:
    """Codes to set out from, flat [count, D]: of held-out examples, or of draws."""
    chosen = codes.encode(held_out) if codes.encode else codes.prior(count)
    return chosen[:count].reshape(min(count, len(chosen)), -1)


def traverse(config, codes: Codes, held_out, beside) -> Explored:
    """One code, a row for each dimension: those that change most what is decoded, the first first."""
    settings, start = config.explore, starts(codes, held_out, 1)[0]

    def decode(flat):
        return codes.decode_all(flat[:, None])[:, 0]

    candidates = traversal.most_varying(codes.flat, CANDIDATES)
    change = traversal.effect(decode, start, codes.flat, candidates, settings.reach)
    order = np.argsort(-change, kind='stable')[: settings.dimensions]
    steps = (
        settings.steps if codes.decoded.ndim == 4 else FRAMES * settings.steps
    )  # points are drawn together, as curves
    rows = traversal.traverse(start, codes.flat, candidates[order], settings.reach, steps)
    figures = {'traversal_change': {str(candidates[place]): float(change[place]) for place in order}}
    return Explored({'traversal': strips.strip(codes.decode_all(rows), beside)}, {}, figures)


def thicken(config, codes: Codes, held_out) -> Explored:
    """Codes moved by -reach to +reach along the direction of thicker strokes, and the thickness that they then have."""
    alphas = np.linspace(-config.explore.reach, config.explore.reach, config.explore.steps)
    move = directions.direction(codes.flat, directions.thickness(codes.decoded))
    made = codes.decode_all(directions.along(starts(codes, held_out, config.explore.pairs), move, alphas))
    measured = directions.thickness(made).mean(0)
    return Explored({'direction_thickness': strips.strip(made)}, {}, {'thickness': _by_place(alphas, measured)})


def classes(config, codes: Codes, held_out, judge: classifier.Classifier | None) -> Explored:
    """A row for each class: a code of another one, moved by 0 to reach along the direction of the class.

    The figure is the classifier's probability of the class, averaged over the rows."""
    if judge is None:
        return Explored({}, {}, {})
    labels = judge.probabilities(codes.decoded).argmax(1) if codes.labels is None else np.asarray(codes.labels)
    present = [label for label in range(min(len(judge.classes), CLASSES)) if 0 < (labels == label).sum() < len(labels)]
    if not present:
        warn('every sample looks like one class: there are no directions between classes')
        return Explored({}, {}, {})
    moves = np.stack([directions.direction(codes.flat, labels == label) for label in present])
    others = [np.flatnonzero(labels != label)[0] for label in present]
    alphas = np.linspace(0, config.explore.reach, config.explore.steps)
    made = codes.decode_all(directions.along(codes.flat[others], moves, alphas))
    sure = np.stack([judge.probabilities(row)[:, label] for row, label in zip(made, present)])
    return Explored(
        {'direction_classes': strips.strip(made)}, {}, {'class_probability': _by_place(alphas, sure.mean(0))}
    )


def invert(config, codec, placement, variables, codes: Codes, held_out) -> Explored:
    """Held-out examples, and the nearest that the decoder comes to them: from their codes where the model encodes.

    Squared errors are means over pixels in [0, 1], or over the coordinates of points."""
    targets = np.asarray(held_out['x'][: config.explore.inversions])
    chance = np.random.default_rng(config.seed)
    begin = codes.known[chance.integers(len(codes.known), size=(len(targets), RESTARTS))]
    if codes.encode:
        begin[:, 0] = codes.encode(held_out)[: len(targets)]
    begin = begin.reshape(-1, *codes.known.shape[1:])
    examples = np.repeat(targets, RESTARTS, 0), begin, np.broadcast_to(codes.known.std(0), begin.shape)
    inverter = inversion.inverter(codec.decode, config.explore.inversion_steps)
    found, errors = inversion.best(*parallel.run(placement, inverter, variables, examples), RESTARTS)
    before, after = errors.mean(1) / targets[0].size / (4 if targets.ndim == 4 else 1)
    figures = {'inversion_error_before': float(before), 'inversion_error_after': float(after)}
    versions = {'target': targets, 'inversion': codes.decode(found.astype(np.float32))}
    return Explored({'inversion': images.pairs(versions)}, {}, figures)


def mix(config, codes: Codes, held_out) -> Explored:
    """Coarse features of the images on the left, fine ones of those above, where the model can tell them apart."""
    if codes.mix is None:
        return Explored({}, {}, {})
    count = config.explore.pairs
    both = codes.prior(2 * count) if codes.prior else codes.encode(held_out)[: 2 * count]
    beside, above = both[:count], both[count:]
    mixed = codes.mix(np.repeat(beside, count, 0), np.concatenate([above] * count))
    made = strips.table(mixed.reshape(count, count, *mixed.shape[1:]), codes.decode(above), codes.decode(beside))
    return Explored({'mixing': made}, {}, {})


def edit(config, experiment, placement, variables) -> Explored:
    """Resamples the right half or the middle of held-out examples, and translates others, VERSIONS times each."""
    sampler = experiment.sampler
    if sampler is None:
        return Explored({}, {}, {})
    rows = np.repeat(np.arange(config.explore.pairs), VERSIONS)
    batch = jax.device_get(drawing.examples(config)(rows))
    condition = conditioning.from_batch(experiment.conditions, batch)
    keys = drawing.keys(config.seed, 0, len(rows), 'edit')
    pictures = {}
    if sampler.inpaint is not None:
        inpaint, mask = drawing.jitted(sampler.inpaint), masks(batch['x'].shape)
        known = np.where(mask > 0, batch['x'], 0)
        given = batch, mask, keys, condition
        output = parallel.run(placement, lambda variables, given: inpaint(variables, *given), variables, given)
        pictures['inpainting'] = strips.strip(beside_first(known, output))
    if sampler.image_to_image is not None:
        translate, given = drawing.jitted(sampler.image_to_image), (batch, keys, condition)
        output = parallel.run(placement, lambda variables, given: translate(variables, *given), variables, given)
        pictures['image_to_image'] = strips.strip(beside_first(batch['x'], output))
    return Explored(pictures, {}, {})


def masks(shape: tuple[int, ...]) -> np.ndarray:
    """1 where an image is known, [B, H, W, 1]: the left half of every other one, all but the middle of the rest."""
    mask = np.ones((*shape[:3], 1), np.float32)
    height, width = shape[1:3]
    mask[0::2, :, width // 2 :] = 0
    mask[1::2, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 0
    return mask


def beside_first(given: np.ndarray, made: np.ndarray) -> np.ndarray:
    """[rows * VERSIONS, ...] each -> [rows, 2 VERSIONS, ...]: what is given left of what was made of it."""
    return np.stack([given, made], 1).reshape(-1, 2 * VERSIONS, *made.shape[1:])


def _by_place(alphas: np.ndarray, values: np.ndarray) -> dict[str, float]:
    return {f'{alpha:+.2f}': float(value) for alpha, value in zip(alphas, values)}
