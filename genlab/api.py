"""A run from Python.

    import genlab
    run = genlab.load('runs/dcgan')
    images = run.sample(16, seed=0)  # uint8 [16, H, W, C], the pictures of --mode=sample --count=16 --seed=0

Images go out as uint8 [N, H, W, C], or with dtype='float32' as the model made them, mostly in [-1, 1]. They come in as
uint8, which is prepared as held-out data are, or as floats in [-1, 1], which are taken as they are. Points [N, D] and
sequences [N, T, D] are float32. All results are numpy arrays. Example i depends on the seed and on i, not on the batch.
"""

import functools
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import conditioning, data, evaluation, experiment
from genlab.abilities import Codes, Likelihood
from genlab.choices import is_named, named
from genlab.conditioning import Given
from genlab.config import at, check_key, put
from genlab.data.transforms import is_map
from genlab.errors import ConfigError, choose
from genlab.evaluation.evaluators import held_out
from genlab.evaluation.metrics import likelihood
from genlab.evaluation.subject import compiled
from genlab.experiment import Build, Experiment
from genlab.run import images, record, workdir
from genlab.run.files import path_of
from genlab.sampling import drawing, inputs, rejection
from genlab.training import parallel, pretrained
from genlab.training.checkpoint import NEWEST
from genlab.training.program import Program, check
from genlab.training.state import State

ABILITIES = ('sample', 'encode', 'decode', 'prior', 'reconstruct', 'log_likelihood', 'evaluate')
DTYPES = dict.fromkeys(('uint8', 'float32'))  # types of returned images
EXACT = ('nll', 'nll_codes', 'negative_log_density')  # measures of a model that are exact
BOUNDS = ('nll_bound', 'nll_codes_bound')  # and those that are upper bounds
IGNORED = ('count', 'chunk', 'parts')  # settings that a model does not depend on


def load(folder: str | os.PathLike[str], checkpoint: str | int = NEWEST) -> 'Run':
    """Loads a run onto the first device of this process, whatever devices it was trained on; see `genlab.load`."""
    path = path_of(folder)
    config = pretrained.config_of(str(path), 'folder')
    build = experiment.load(config.experiment)
    placement = parallel.place(config.placement, jax.local_devices()[:1])
    named = str(checkpoint)
    step, state, program = pretrained.restore(config, build, path, placement, 'folder', alone=True, checkpoint=named)
    return Run(path, step, state, program, placement, build)


class Estimate(NamedTuple):
    """A way to estimate the log-likelihood."""

    purpose: str  # name of the random stream, as in evaluations
    nats: Callable  # (variables, batch, keys [B]) -> log-likelihoods [B]
    density: bool = False  # whether it is a density of dequantised values, where images are dequantised


class Run:
    """A trained model and what it can do. A method without the ability it needs raises ConfigError in one line.

    folder: folder of the run.
    step: step of the checkpoint.
    config: config of the phase that the step belongs to, with the facts of its data.
    state: parameters, collections, optimizers and averages; `state.variables(averaged=True)` is what the methods use.
    experiment: the abilities as functions of variables, see `genlab.abilities`.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        step: int,
        state: State,
        program: Program,
        placement: parallel.Placement,
        build: Build,
    ):
        self.folder, self.step, self.state, self.config = folder, step, state, program.config
        self.experiment: Experiment = program.experiment
        self._placement, self._build, self._variables = placement, build, state.variables(averaged=True)
        self._declared = data.declared(self.config.data)
        self._field = self._declared.fields[self.config.data.observe]
        self._prepare = jax.jit(data.prepare_batch(self.config.data, self._declared, train=False))
        self._experiments = {_key(self.config): self.experiment}
        self._compared = False  # whether the data were compared with the record of the run

    @functools.cached_property
    def abilities(self) -> tuple[str, ...]:
        """The names of the methods that this run has."""
        codec, alone = self.experiment.codec, not self.experiment.conditions.fields
        there = {
            'sample': self.experiment.sampler is not None,
            'encode': alone and codec is not None and codec.encode is not None,
            'decode': codec is not None and codec.decode is not None,
            'prior': codec is not None and codec.prior is not None,
            'reconstruct': alone and self.experiment.reconstruct is not None,
            'log_likelihood': bool(self._estimates),
            'evaluate': True,
        }
        return tuple(name for name in ABILITIES if there[name])

    def __repr__(self) -> str:
        return f'<{self.folder}, {self.config.experiment}, step {self.step}: {", ".join(self.abilities)}>'

    def sample(
        self,
        count: int,
        seed: int = 0,
        label: int | str | Sequence[int | str] | None = None,
        prompt: str | Sequence[str] | None = None,
        truncation: float | None = None,
        *,
        input: str | os.PathLike[str] = '',
        boxes: str | os.PathLike[str] = '',
        resolution: int = 0,
        dtype: str = 'uint8',
        **settings: Any,
    ) -> np.ndarray:
        """Draws samples, as `--mode=sample` does.

        Without a label or a prompt, conditions are drawn as in training pictures: random classes, null captions, or
        held-out examples where `config.sample.condition` says so.

        Args:
          count: number of samples, N.
          seed: seed of the noise. Sample i of a seed is the same for any count.
          label: a class by number or name for all samples, or one per sample.
          prompt: a caption for all samples, or one per sample.
          truncation: value of `config.sample.truncation`, for models that have it.
          input, boxes, resolution: files that condition the samples, as the flags of the same names.
          dtype: type of images, 'uint8' or 'float32'.
          settings: other values of `config.sample`, such as steps=20, guidance=3.0 or sampler='heun'.

        Returns:
          Images [N, H, W, C], uint8 in 0 to 255, or float32 mostly in [-1, 1]; points [N, D] or sequences [N, T, D],
          float32.
        """
        choose(DTYPES, dtype, 'dtype')
        if not _whole(count, 1):
            raise ConfigError(f'count={count!r}: give a whole number of samples, at least 1')
        self._need('sample')
        settings |= {} if truncation is None else {'truncation': truncation}
        config, model = self._with('sample', settings)
        given = self._given(count, label, prompt)
        if input or boxes:
            read = inputs.read(model.conditions, self._declared, str(input), str(boxes), resolution)
            if given.fields:
                raise ConfigError('input and boxes take one label or prompt for all samples: give one')
            given = read._replace(prompt=given.prompt, label=given.label)
        if model.conditions.any:
            self._compare()
        conditions = drawing.condition_at(config, model.conditions, seed, given)
        drawn = rejection.draw(
            model, self._placement, self._variables, config, int(count), int(seed), conditions=conditions
        )
        return _outward(drawn, dtype)

    def encode(self, x: Any, label: Any = None, prompt: Any = None) -> Codes:
        """Encodes examples.

        Args:
          x: images, points or sequences, see `genlab.api`; N of them.
          label, prompt: of the examples, one for all or one per example, where the model is conditioned on them.

        Returns:
          Codes, arrays [N, ...] or a tree of them, as `decode` takes them: floats, or int32 entries of a codebook.
        """
        self._need('encode')
        assert self.experiment.codec is not None
        encode = compiled(self.experiment.codec.encode)
        return self._over('encode', lambda variables, batch, keys: encode(variables, batch), x, label, prompt)

    def decode(self, codes: Codes, dtype: str = 'uint8') -> np.ndarray:
        """Decodes codes.

        Args:
          codes: as `encode` and `prior` return them, leaves [N, ...].
          dtype: type of images, 'uint8' or 'float32'.

        Returns:
          Images [N, H, W, C], points [N, D] or sequences [N, T, D].
        """
        choose(DTYPES, dtype, 'dtype')
        self._need('decode')
        assert self.experiment.codec is not None
        decode, codes = compiled(self.experiment.codec.decode), self._codes(codes)
        count = len(jax.tree.leaves(codes)[0])
        decoded = self._blocks(
            lambda numbers: parallel.run(
                self._placement, decode, self._variables, jax.tree.map(lambda leaf: leaf[numbers], codes)
            ),
            count,
        )
        return _outward(decoded, dtype)

    def prior(self, count: int, seed: int = 0) -> Codes:
        """Draws codes from the prior of the model, [count, ...]. Decoded, they are samples."""
        self._need('prior')
        if not _whole(count, 1):
            raise ConfigError(f'count={count!r}: give a whole number of codes, at least 1')
        assert self.experiment.codec is not None
        prior = compiled(self.experiment.codec.prior)
        return self._blocks(
            lambda numbers: parallel.run(
                self._placement, prior, self._variables, drawing.keys_at(seed, numbers, 'prior')
            ),
            count,
        )

    def reconstruct(
        self, x: Any, seed: int = 0, label: Any = None, prompt: Any = None, dtype: str = 'uint8'
    ) -> np.ndarray:
        """Reconstructs examples.

        Args:
          x, label, prompt: as for `encode`.
          seed: seed of the noise, where the model corrupts its input or draws its codes.
          dtype: type of images, 'uint8' or 'float32'.

        Returns:
          The reconstructions, of the shape of x.
        """
        choose(DTYPES, dtype, 'dtype')
        self._need('reconstruct')
        made = self._over('reconstruct', compiled(self.experiment.reconstruct), x, label, prompt, seed, 'reconstruct')
        return _outward(made['output'], dtype)

    def log_likelihood(
        self,
        x: Any,
        estimate: str | None = None,
        seed: int = 0,
        label: Any = None,
        prompt: Any = None,
        latents: int = 500,
    ) -> np.ndarray:
        """Estimates the log-likelihood of examples.

        It refers to what the model models: 8-bit levels or bits of uint8 images, a density of points. Floats of a model
        that is trained on dequantised images have the density of these floats.

        Args:
          x, label, prompt: as for `encode`.
          estimate: 'exact'; 'bound', a lower bound; or 'importance', a tighter lower bound by importance weighting.
            None takes the first of them that the model has.
          seed: seed of the noise of an estimate.
          latents: per example, of 'importance'.

        Returns:
          float64 [N], nats.
        """
        self._need('log_likelihood')
        name = next(iter(self._estimates)) if estimate is None else estimate
        chosen = choose(self._estimates, name, 'estimate')
        function = chosen.nats
        if name == 'importance':
            if not _whole(latents, 1):
                raise ConfigError(f'latents={latents!r}: give a whole number, at least 1')
            weighted = held_out.importance(chosen.nats, latents, self.config.evaluate.importance_chunk)
            function = lambda *arguments: -weighted(*arguments)['nll_importance_weighted']
        nats = self._over('log_likelihood', function, x, label, prompt, seed, chosen.purpose).astype(np.float64)
        if chosen.density and self.config.data.dequantise and np.asarray(x).dtype == np.uint8:
            return likelihood.of_levels(nats, int(np.prod(self._field.shape)))
        return nats

    def evaluate(self, **settings: Any) -> evaluation.Evaluation:
        """Evaluates the model on its data, as `--mode=evaluate` does; nothing is written.

        Args:
          settings: other values of `config.evaluate`, such as count=200 or parts=('quality',).

        Returns:
          `figures`, `protocol` (figures compare only if their ids are equal), `alarms`, `pictures`, and durations.
        """
        config, model = self._with('evaluate', settings)
        self._compare()
        return evaluation.evaluate(config, model, self._placement, self.state)

    @functools.cached_property
    def _estimates(self) -> dict[str, Estimate]:
        """Returns the estimates of the log-likelihood by name, the default one first."""
        found: dict[str, Estimate] = {}
        estimates = self.experiment.likelihood or Likelihood()
        if self.experiment.conditions.fields:  # of files or held-out examples, which `evaluate` reads
            return found
        names: tuple[str, ...] = ()
        if self.experiment.measure is not None:
            measure = compiled(self.experiment.measure)
            zeros = np.zeros((1, *self._field.shape), self._field.dtype)
            condition = self._worded(1, None, None)
            names = tuple(
                jax.eval_shape(lambda: measure(self._variables, *self._batch(zeros, condition, np.arange(1))))
            )

            def measured(name: str) -> Estimate:
                return Estimate('measure', lambda *arguments: -measure(*arguments)[name])

        exact, bound = (next((name for name in known if name in names), '') for known in (EXACT, BOUNDS))
        if exact:
            found['exact'] = measured(exact)
        elif estimates.exact:
            found['exact'] = Estimate('exact', compiled(estimates.exact), density=True)
        if bound:
            found['bound'] = measured(bound)
        if estimates.log_weight:
            found['importance'] = Estimate('importance', estimates.log_weight)  # of one latent
        return found

    def _need(self, name: str) -> None:
        """Raises ConfigError if the run has no such ability."""
        if name not in self.abilities:
            fields = self.experiment.conditions.fields
            why = f' of arrays, because it is conditioned on {", ".join(fields)}' if fields else ''
            raise ConfigError(
                f'{self.folder} (config.experiment={self.config.experiment!r}) has no {name}{why}; it has '
                f'{", ".join(self.abilities)}'
            )

    def _with(self, part: str, settings: Mapping[str, Any]) -> tuple[ConfigDict, Experiment]:
        """Returns the config and the model with other settings of a part; the same model for the same settings."""
        if not settings:
            return self.config, self.experiment
        config = self.config.copy_and_resolve_references()
        for name, value in settings.items():
            key = f'{part}.{name}'
            check_key(config, key)
            value = named(value) if is_named(at(config, key)) and isinstance(value, str) else value
            try:
                put(config, key, value)
            except TypeError:
                kind = type(at(config, key)).__name__
                raise ConfigError(f'config.{key}={value!r}: its type is {kind}') from None
        check(config, [], self._placement)
        key = _key(config)
        if key not in self._experiments:
            self._experiments[key] = self._build(config, self._placement.axis)
        rejection.check(config, self._experiments[key])
        return config, self._experiments[key]

    def _compare(self) -> None:
        """Compares the data with the record of the run, once."""
        if not self._compared:
            record.check(self.folder, self.config)
        self._compared = True

    def _given(self, count: int, label: Any, prompt: Any) -> Given:
        """Returns the requested condition: one word for all samples, or fields with a row per sample."""
        if _many(label) or _many(prompt):
            rows = self._worded(count, label, prompt)
            return Given(fields=rows, names=tuple(map(str, range(count))))
        return Given('' if prompt is None else str(prompt), '' if label is None else str(label))

    def _worded(self, count: int, label: Any, prompt: Any) -> dict[str, np.ndarray]:
        """Returns classes and captions, {name: [count, ...]}. What is not given is null."""

        def each(name: str, value: Any) -> list[str]:
            if not _many(value):
                return ['' if value is None else str(value)] * count
            if len(value) != count:
                raise ConfigError(f'{name} has {len(value)} entries for {count} examples: give one, or one per example')
            return [str(entry) for entry in value]

        conditions = self.experiment.conditions._replace(fields=())
        words = [*zip(each('prompt', prompt), each('label', label))]
        known = {pair: conditioning.from_text(conditions, self._declared, 1, *pair) for pair in dict.fromkeys(words)}
        return {name: np.concatenate([known[pair][name] for pair in words]) for name in known[words[0]]}

    def _condition(self, method: str, count: int, label: Any, prompt: Any) -> dict[str, np.ndarray]:
        """Returns the condition of examples that come in; raises ConfigError if it is needed and not given."""
        conditions = self.experiment.conditions
        missing = ['label'] * (bool(conditions.classes) and label is None)
        missing += ['prompt'] * (bool(conditions.words) and prompt is None)
        if missing and not self.config.model.get('drop_condition'):  # it has no null condition
            raise ConfigError(f'{method}: this model is conditioned on {" and ".join(missing)}: give {missing[0]}=')
        return self._worded(count, label, prompt)

    def _over(
        self,
        method: str,
        function: Callable,
        x: Any,
        label: Any,
        prompt: Any,
        seed: int = 0,
        purpose: str = 'measure',
    ) -> Any:
        """Applies a compiled function, (variables, batch, keys) -> leaves [B, ...], to examples; gives host arrays."""
        x = self._examples(x)
        condition = self._condition(method, len(x), label, prompt)

        def block(numbers: np.ndarray) -> Any:
            both = self._batch(x, condition, numbers, seed, purpose)
            return parallel.run(
                self._placement, lambda variables, both: function(variables, *both), self._variables, both
            )

        return self._blocks(block, len(x))

    def _blocks(self, function: Callable[[np.ndarray], Any], count: int) -> Any:
        """Joins the results of a function of numbers, `config.sample.chunk` at a time, in blocks of one shape."""
        size = min(count, self.config.sample.chunk)
        parts = [function(np.arange(first, first + size) % count) for first in range(0, count, size)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)

    def _batch(
        self,
        x: np.ndarray,
        condition: Mapping[str, np.ndarray],
        numbers: np.ndarray,
        seed: int = 0,
        purpose: str = 'measure',
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """Returns a prepared batch of some of the examples, and their keys."""
        observe, rows = self.config.data.observe, {name: values[numbers] for name, values in condition.items()}
        batch = {**rows, observe: x[numbers], 'position': numbers.astype(np.int32)}
        if 'length' in self._declared.fields and self._field.shape:  # all sequences are whole
            batch['length'] = np.full(len(numbers), self._field.shape[0], np.int32)
        if is_map(self._field) and x.dtype != np.uint8:
            batch['x'] = batch[observe]
        else:
            batch = self._prepare(batch, drawing.keys_at(self.config.seed, numbers, 'prepare'))
        return batch, drawing.keys_at(seed, numbers, purpose)

    def _examples(self, x: Any) -> np.ndarray:
        """Returns examples in the type of the data, or images as float32; raises ConfigError if they are neither."""
        field = self._field
        shape = ', '.join(map(str, ('N', *field.shape)))
        picture, whole = is_map(field), field.dtype.kind in 'iu'
        if picture:
            wanted = f'images, uint8 [{shape}] or floats in [-1, 1]'
        else:
            wanted = f'{"whole numbers" if whole else "floats"} [{shape}]'
        try:
            array = np.asarray(x)
        except ValueError:
            raise ConfigError(f'x: give {wanted}, not a list of different shapes') from None
        floats = jax.dtypes.issubdtype(array.dtype, np.floating)
        if picture:
            typed = floats or array.dtype == np.uint8
        else:
            typed = array.dtype.kind in 'iu' if whole else floats
        if not typed or array.shape[1:] != field.shape or not array.size:
            raise ConfigError(f'x: give {wanted}, not {array.dtype} {list(array.shape)}')
        low, high = (-1, 1) if picture and floats else (field.low, field.high)
        array = array.astype(np.float32) if floats else array
        if not np.isfinite(array).all():
            raise ConfigError(f'x: give {wanted}; some values are not finite')
        if array.min() < low or array.max() > high:
            cure = ': convert levels by x / 127.5 - 1, and clip' if picture and floats else ''
            raise ConfigError(f'x: values lie in [{low:g}, {high:g}], not in [{array.min():g}, {array.max():g}]{cure}')
        return array if floats or picture else array.astype(field.dtype)

    def _codes(self, codes: Codes) -> Codes:
        """Returns codes as arrays of the type that `decode` takes; raises ConfigError if they have another shape."""
        expected = self._expected_codes()
        if expected is None:
            return jax.tree.map(np.asarray, codes)
        treedef: Any = jax.tree.structure(expected)
        one = treedef == jax.tree.structure(0)  # a nested list is one array then
        codes = np.asarray(codes) if one else jax.tree.map(np.asarray, codes)
        shapes = lambda tree: jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), tree)
        same = treedef == jax.tree.structure(codes)
        if not same or shapes(codes) != shapes(expected) or len({len(leaf) for leaf in jax.tree.leaves(codes)}) != 1:
            wanted, found = _shapes(expected), _shapes(codes)
            raise ConfigError(f'codes: give {wanted}, as encode or prior returns them, not {found}')
        return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), codes, expected)

    def _expected_codes(self) -> Any:
        """Returns the shapes and types of the codes of one example; None if the model neither draws nor encodes."""
        codec: Any = self.experiment.codec
        if codec.prior is not None:
            return jax.eval_shape(codec.prior, self._variables, drawing.keys(0, 0, 1))
        if 'encode' not in self.abilities:
            return None
        zeros, condition = np.zeros((1, *self._field.shape), self._field.dtype), self._worded(1, None, None)
        return jax.eval_shape(lambda: codec.encode(self._variables, self._batch(zeros, condition, np.arange(1))[0]))


def _key(config: ConfigDict) -> str:
    """Returns as text the settings that may change after training and that the model depends on."""
    parts = {name: workdir.plain(config)[name] for name in ('sample', 'evaluate')}
    kept = {name: {key: value for key, value in part.items() if key not in IGNORED} for name, part in parts.items()}
    return json.dumps(kept, sort_keys=True)


def _shapes(codes: Codes) -> str:
    """Formats the shapes of codes for an error line: '[N, 4, 4], [N, 8, 8]'."""
    return ', '.join(f'[{", ".join(map(str, ("N", *leaf.shape[1:])))}]' for leaf in jax.tree.leaves(codes))


def _outward(made: np.ndarray, dtype: str) -> np.ndarray:
    """Returns images as `dtype`, and anything else as it is."""
    return images.to_uint8(made) if made.ndim == 4 and dtype == 'uint8' else made


def _many(value: Any) -> bool:
    """Returns whether a value has an entry per example."""
    return not isinstance(value, str) and np.ndim(value) > 0


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least
