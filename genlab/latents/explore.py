"""Explores the code space of a model: all latent tools that its abilities allow, as pictures and figures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genlab import conditioning, data
from genlab.abilities import Batch, Codec, Variables
from genlab.errors import UserError, warn
from genlab.evaluation.features import classifier
from genlab.experiment import Experiment
from genlab.latents import directions, inversion, strips, traversal
from genlab.latents.codes import Codes, learn, vector_decoder
from genlab.latents.interpolation import linear, path, spherical
from genlab.run import images
from genlab.sampling import drawing
from genlab.training import parallel
from genlab.training.state import State

FRAMES = 4  # animation frames per step of a strip
RESTARTS = 4  # initial codes per inversion
CANDIDATES = 64  # dimensions whose effect is measured
CLASSES = 10  # classes with a row in the picture of directions, at most
FILTERS = 100  # in their picture, at most
VERSIONS = 4  # outputs per image that is inpainted or translated


class Explored(NamedTuple):
    """The results of exploring a model."""

    pictures: dict[str, np.ndarray]  # name -> uint8 [H, W, C]
    animations: dict[str, np.ndarray]  # name -> uint8 [T, H, W, C]
    figures: dict[str, Any]  # name -> number, or {dimension or step along a direction: number}


def explore(config: ConfigDict, experiment: Experiment, placement: parallel.Placement, state: State) -> Explored:
    """Runs all latent tools that the abilities of a model allow, with averaged weights.

    With a codebook, the codes before quantisation are explored if the model offers them. Otherwise a warning says so
    and the result is empty. A model without codes may still inpaint or translate images.

    Args:
      config: config of the run.
      experiment: the model.
      placement: placement of the state.
      state: state of the run.

    Raises:
      UserError: the model has none of these abilities.
    """
    codec, sampler = experiment.codec, experiment.sampler
    variables = state.variables(averaged=True)
    kept: list[np.ndarray] = []  # which outputs are finite, per call
    if codec is not None and (codec.encode or codec.prior) and (codec.decode or codec.entries):
        if codec.entries:
            codec = codec.continuous  # codes before quantisation, which `decode` quantises
            if codec is None or not (codec.encode or codec.prior):
                warn('the codes are entries of a codebook, and no continuous codes are available: nothing to explore')
                return Explored({}, {}, {})
        parts = _explore_codes(config, experiment, codec, placement, variables, kept)
    elif sampler is not None and (sampler.inpaint or sampler.image_to_image):
        parts = [edit(config, experiment, placement, variables, kept)]
    else:
        raise UserError(
            f'a model of config.experiment={config.experiment!r} has no codes to decode, so there is nothing to '
            'explore; --mode=evaluate measures its other abilities'
        )
    if kept and jax.process_index() == 0:
        images.warn_of_lost(np.concatenate(kept), 'explored samples')
    return Explored(
        pictures={name: picture for part in parts for name, picture in part.pictures.items()},
        animations={name: frames for part in parts for name, frames in part.animations.items()},
        figures={name: figure for part in parts for name, figure in part.figures.items()},
    )


def _explore_codes(
    config: ConfigDict,
    experiment: Experiment,
    codec: Codec,
    placement: parallel.Placement,
    variables: Variables,
    kept: list[np.ndarray],
) -> list[Explored]:
    """Runs the latent tools, and for images those that edit them; see `edit` for the arguments."""
    codes = _watched(learn(config, codec, placement, variables), kept)
    source = data.load(config.data, 'test')
    held_out = drawing.examples(config)(np.arange(max(4 * config.explore.pairs, config.explore.inversions)))
    reference = drawing.reference(source, config)
    parts = [interpolate(config, codes, held_out, reference), traverse(config, codes, held_out, reference)]
    if config.explore.inversions:
        parts.append(invert(config, codec, placement, variables, codes, held_out))
    if codes.decoded.ndim == 4:
        trained = classifier.load(config.data) if has_classes(source, config) else None
        parts += [
            thicken(config, codes, held_out),
            classes(config, codes, held_out, trained),
            mix(config, codes, held_out),
            truncate(config, codes),
            factorise(config, codes, held_out),
            draw_filters(codec, variables),
            edit(config, experiment, placement, variables, kept),
        ]
    return parts


def _watched(codes: Codes, kept: list[np.ndarray]) -> Codes:
    """Returns the codes with functions that append to `kept` which of their outputs are finite."""

    def watched(function: Callable) -> Callable:
        def call(*codes: np.ndarray) -> np.ndarray:
            output = function(*codes)
            kept.append(images.finite(output))
            return output

        return call

    return codes._replace(decode=watched(codes.decode), mix=codes.mix and watched(codes.mix))


def has_classes(source: data.Source, config: ConfigDict) -> bool:
    """Returns whether a classifier of these images can be trained."""
    return 'label' in source.fields and source.fields['label'].high > 0 and config.data.observe == 'image'


def interpolate(config: ConfigDict, codes: Codes, held_out: Batch, reference: np.ndarray | None) -> Explored:
    """Draws paths between codes, as strips and animations.

    They are linear between held-out examples of different classes, and spherical between draws from the prior.

    Args:
      config: config of the run.
      codes: codes of the model.
      held_out: a prepared batch.
      reference: real points to draw behind paths of points.
    """
    steps, count = config.explore.steps, config.explore.pairs
    ends: dict[str, tuple[np.ndarray, np.ndarray, Callable]] = {}
    if codes.encode:
        encoded = codes.encode(held_out)
        first, second = pair_up(np.asarray(held_out.get('label', np.zeros(len(encoded)))), count)
        ends['interpolation_data'] = encoded[first], encoded[second], linear
    if codes.prior:
        drawn = codes.prior(2 * count)
        ends['interpolation_prior'] = drawn[:count], drawn[count:], spherical
    pictures, animations = {}, {}
    for name, (a, b, between) in ends.items():
        points = path(jnp.asarray(a), jnp.asarray(b), FRAMES * (steps - 1) + 1, between)
        decoded = codes.decode_all(np.asarray(points))
        shown = decoded if decoded.ndim == 3 else decoded[:, ::FRAMES]
        pictures[name], animations[name] = strips.strip(shown, reference), strips.frames(decoded, reference)
    return Explored(pictures, animations, {})


def pair_up(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs consecutive examples, of different classes as long as there are any: indices [count] and [count].

    labels: [N].
    """
    left = list(range(len(labels)))
    pairs: list[tuple[int, int]] = []
    while len(pairs) < count and len(left) > 1:
        first = left.pop(0)
        second = next((other for other in left if labels[other] != labels[first]), left[0])
        left.remove(second)
        pairs.append((first, second))
    firsts, seconds = np.array(pairs).T
    return firsts, seconds


def starts(codes: Codes, held_out: Batch, count: int) -> np.ndarray:
    """Returns initial codes [count, D]: of held-out examples, or from the prior if the model does not encode.

    Args:
      codes: codes of the model.
      held_out: a prepared batch.
      count: codes at most.
    """
    if codes.encode is not None:
        return codes.encode(held_out)[:count]
    assert codes.prior is not None
    return codes.prior(count)


def traverse(config: ConfigDict, codes: Codes, held_out: Batch, reference: np.ndarray | None) -> Explored:
    """Draws latent traversals of one code: a row per dimension, ordered by the effect on the decoded output.

    Args:
      config: config of the run.
      codes: codes of the model.
      held_out: a prepared batch.
      reference: real points to draw behind paths of points.
    """
    settings, start = config.explore, starts(codes, held_out, 1)[0]

    candidates = traversal.most_varying(codes.known, CANDIDATES)
    change = traversal.effect(codes.decode, start, codes.known, candidates, settings.reach)
    order = np.argsort(-change, kind='stable')[: settings.dimensions]
    # Points share one plot, as curves, which need more steps than a strip of images or sequences.
    steps = settings.steps if codes.decoded.ndim > 2 else FRAMES * settings.steps
    rows = traversal.traverse(start, codes.known, candidates[order], settings.reach, steps)
    figures = {'traversal_change': {str(candidates[place]): float(change[place]) for place in order}}
    return Explored({'traversal': strips.strip(codes.decode_all(rows), reference)}, {}, figures)


def thicken(config: ConfigDict, codes: Codes, held_out: Batch) -> Explored:
    """Moves codes by -reach to +reach along the direction of thicker strokes.

    The figure is the thickness of the decoded images, per step.

    Args:
      config: config of the run.
      codes: codes of the model.
      held_out: a prepared batch.
    """
    alphas = np.linspace(-config.explore.reach, config.explore.reach, config.explore.steps)
    move = directions.direction(codes.known, directions.thickness(codes.decoded))
    decoded = codes.decode_all(directions.along(starts(codes, held_out, config.explore.pairs), move, alphas))
    thickness = directions.thickness(decoded).mean(0)
    return Explored({'direction_thickness': strips.strip(decoded)}, {}, {'thickness': _by_alpha(alphas, thickness)})


def classes(config: ConfigDict, codes: Codes, held_out: Batch, trained: classifier.Classifier | None) -> Explored:
    """Draws a row per class: a code of another class, moved by 0 to `reach` along the direction of the class.

    The figure is the classifier's probability of the target class, averaged over rows.

    Args:
      config: config of the run.
      codes: codes of the model.
      held_out: a prepared batch.
      trained: the classifier; None without labels, for an empty result.
    """
    if trained is None:
        return Explored({}, {}, {})
    labels = trained.probabilities(codes.decoded).argmax(1) if codes.labels is None else np.asarray(codes.labels)
    present = [
        label for label in range(min(len(trained.classes), CLASSES)) if 0 < (labels == label).sum() < len(labels)
    ]
    if not present:
        warn('all samples are classified as one class, so there are no directions between classes')
        return Explored({}, {}, {})
    moves = np.stack([directions.direction(codes.known, labels == label) for label in present])
    others = [np.flatnonzero(labels != label)[0] for label in present]
    alphas = np.linspace(0, config.explore.reach, config.explore.steps)
    decoded = codes.decode_all(directions.along(codes.known[others], moves, alphas))
    probability = np.stack([trained.probabilities(row)[:, label] for row, label in zip(decoded, present)]).mean(0)
    figures = {'class_probability': _by_alpha(alphas, probability)}
    return Explored({'direction_classes': strips.strip(decoded)}, {}, figures)


def invert(
    config: ConfigDict,
    codec: Codec,
    placement: parallel.Placement,
    variables: Variables,
    codes: Codes,
    held_out: Batch,
) -> Explored:
    """Draws held-out examples next to their inversions, which start from their codes if the model encodes.

    Squared errors are means over pixels in [0, 1], or over the coordinates of points.

    Args:
      config: config of the run.
      codec: codec of the codes.
      placement: placement of the variables.
      variables: variables of the model.
      codes: codes of the model.
      held_out: a prepared batch.
    """
    targets = np.asarray(held_out['x'][: config.explore.inversions])
    random = np.random.default_rng(config.seed)
    begin = codes.known[random.integers(len(codes.known), size=(len(targets), RESTARTS))]
    if codes.encode is not None:
        begin[:, 0] = codes.encode(held_out)[: len(targets)]
    begin = begin.reshape(-1, codes.layout.size)
    examples = np.repeat(targets, RESTARTS, 0), begin, np.broadcast_to(codes.known.std(0), begin.shape)
    decode: Callable = codec.decode
    inverter = inversion.inverter(vector_decoder(decode, codes.layout), config.explore.inversion_steps)
    inverted, errors = parallel.run(placement, inverter, variables, examples)
    best, errors = inversion.best(inverted, errors, RESTARTS)
    before, after = errors.mean(1) / targets[0].size / (4 if targets.ndim == 4 else 1)
    figures = {'inversion_error_before': float(before), 'inversion_error_after': float(after)}
    versions = {'target': targets, 'inversion': codes.decode(best.astype(np.float32))}
    return Explored({'inversion': images.pairs(versions)}, {}, figures)


def mix(config: ConfigDict, codes: Codes, held_out: Batch) -> Explored:
    """Draws a table of mixed images: coarse features of the left margin, fine features of the top margin.

    The result is empty if the model cannot mix.

    Args:
      config: config of the run.
      codes: codes of the model.
      held_out: a prepared batch.
    """
    if codes.mix is None:
        return Explored({}, {}, {})
    count = config.explore.pairs
    both = codes.prior(2 * count) if codes.prior else starts(codes, held_out, 2 * count)
    left, above = both[:count], both[count:]
    mixed = codes.mix(np.repeat(left, count, 0), np.concatenate([above] * count))
    grid = mixed.reshape(count, count, *mixed.shape[1:])
    return Explored({'mixing': strips.table(grid, codes.decode(above), codes.decode(left))}, {}, {})


def edit(
    config: ConfigDict,
    experiment: Experiment,
    placement: parallel.Placement,
    variables: Variables,
    kept: list[np.ndarray],
) -> Explored:
    """Draws held-out examples next to inpainted and translated versions, VERSIONS of each.

    The right half or the middle is inpainted. A model of codes edits the images behind them.

    Args:
      config: config of the run.
      experiment: the model.
      placement: placement of the variables.
      variables: variables of the model.
      kept: which outputs are finite is appended here, bool [N] per picture.
    """
    sampler = experiment.sampler
    if sampler is None:
        return Explored({}, {}, {})
    rows = np.repeat(np.arange(config.explore.pairs), VERSIONS)
    shown = config.copy_and_resolve_references()
    shown.data = data.sampled(config.data).copy_and_resolve_references()
    shown.data.fields = tuple(dict.fromkeys((*shown.data.fields, *config.data.fields)))  # conditions, such as captions
    batch = jax.device_get(drawing.examples(shown)(rows))
    condition = conditioning.from_batch(experiment.conditions, batch)
    keys = drawing.keys(config.seed, 0, len(rows), 'edit')
    pictures = {}

    def apply(ability: Callable, *arguments: Any) -> np.ndarray:
        compiled = drawing.jitted(ability)
        output = parallel.run(placement, lambda variables, both: compiled(variables, *both), variables, arguments)
        kept.append(images.finite(output))
        return output

    if sampler.inpaint is not None:
        mask = masks(batch['x'].shape)
        output = apply(sampler.inpaint, batch, mask, keys, condition)
        pictures['inpainting'] = strips.strip(beside_first(np.where(mask > 0, batch['x'], 0), output))
    if sampler.image_to_image is not None:
        output = apply(sampler.image_to_image, batch, keys, condition)
        pictures['image_to_image'] = strips.strip(beside_first(batch['x'], output))
    return Explored(pictures, {}, {})


def masks(shape: tuple[int, ...]) -> np.ndarray:
    """Returns masks [B, H, W, 1] that are 1 where an image is known.

    Even images keep their left half, odd images all but the middle.
    """
    mask = np.ones((*shape[:3], 1), np.float32)
    height, width = shape[1:3]
    mask[0::2, :, width // 2 :] = 0
    mask[1::2, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 0
    return mask


def beside_first(given: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Arranges [rows * VERSIONS, ...] each as [rows, 2 VERSIONS, ...]: every input to the left of its output."""
    return np.stack([given, output], 1).reshape(-1, 2 * VERSIONS, *output.shape[1:])


def draw_filters(codec: Codec, variables: Variables) -> Explored:
    """Draws the weights of each code unit as an image, the FILTERS largest by norm first.

    Each is divided by its largest absolute value, so grey is 0. The result is empty if the model has no filters.

    Args:
      codec: codec of the model.
      variables: variables of the model.
    """
    if codec.filters is None:
        return Explored({}, {}, {})
    weights = np.asarray(codec.filters(parallel.to_host(variables)), np.float32)
    axes = (1, 2, 3)
    chosen = weights[np.argsort(-np.square(weights).sum(axes), kind='stable')[:FILTERS]]
    return Explored(
        {'filters': images.picture(chosen / np.maximum(np.abs(chosen).max(axes, keepdims=True), 1e-8))}, {}, {}
    )


def _by_alpha(alphas: np.ndarray, values: np.ndarray) -> dict[str, float]:
    return {f'{alpha:+.2f}': float(value) for alpha, value in zip(alphas, values)}


def truncate(config: ConfigDict, codes: Codes) -> Explored:
    """Draws a row per sample: its truncation from the mean code, 0, to the code itself, 1, and beyond to -1 and 1.5.

    The result is empty if the model cannot truncate (Karras et al. 2019, appendix B).

    Args:
      config: config of the run.
      codes: codes of the model.
    """
    if codes.truncated is None or codes.prior is None:
        return Explored({}, {}, {})
    count, shares = config.explore.pairs, np.linspace(-1, 1.5, config.explore.steps)
    drawn = codes.truncated(np.repeat(codes.prior(count), len(shares), 0), np.tile(shares, count))
    return Explored({'truncation': strips.strip(drawn.reshape(count, len(shares), *drawn.shape[1:]))}, {}, {})


def factorise(config: ConfigDict, codes: Codes, held_out: Batch) -> Explored:
    """Draws traversals of one code along the directions that the weights amplify most (Shen and Zhou 2021, SeFa).

    The result is empty if the model has no such directions.

    Args:
      config: config of the run.
      codes: codes of the model.
      held_out: a prepared batch.
    """
    if codes.directions is None:
        return Explored({}, {}, {})
    settings, start = config.explore, starts(codes, held_out, 1)[0]
    reach = settings.reach * np.linalg.norm(codes.known.std(0)) / np.sqrt(codes.known.shape[1])
    alphas = np.linspace(-reach, reach, settings.steps)
    moves = codes.directions[: settings.dimensions]
    decoded = codes.decode_all(start + alphas[None, :, None] * moves[:, None])
    return Explored({'weight_directions': strips.strip(decoded)}, {}, {})
