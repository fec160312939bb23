"""The model under evaluation, with everything that several evaluators share: samples, data and codes, computed once."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from ml_collections import ConfigDict

from genlab import conditioning, data
from genlab.abilities import Codec, Variables
from genlab.data import fingerprint
from genlab.experiment import Experiment
from genlab.latents import vectors
from genlab.sampling import drawing, rejection
from genlab.training import parallel

KEPT = 10_000  # training examples that probes and clusters are fitted to
NUMBERS = 2**26  # values that PCA is fitted to at most: all of MNIST

Result = TypeVar('Result')


class Part(NamedTuple):
    """The result of one evaluator."""

    protocol: Mapping[str, Any]  # what its figures depend on, plain values
    figures: Mapping[str, Any]  # name -> number, {class: number}, or a text on too few examples
    pictures: Mapping[str, np.ndarray] = {}  # name -> uint8 [H, W, C]
    rates: Mapping[str, float] = {}  # operation -> examples per second


def compiled(ability: Callable | None) -> Callable:
    """Compiles an ability of a model, once per process; `applies` of the evaluator has checked that it is there."""
    assert ability is not None
    return drawing.jitted(ability)


def _memoised(method: Callable[..., Result]) -> Callable[..., Result]:
    """Keeps results per subject and arguments. A cache of the class would keep the arrays of every evaluated model."""

    @functools.wraps(method)
    def recall(self: 'Subject', *arguments: str) -> Result:
        key = (method.__name__, *arguments)
        if key not in self.memory:
            self.memory[key] = method(self, *arguments)
        return self.memory[key]

    return recall


class Subject:
    """A model, its config and its data. Expensive results are computed on first use and kept."""

    def __init__(self, config: ConfigDict, experiment: Experiment, placement: parallel.Placement, variables: Variables):
        self.config, self.experiment, self.placement, self.variables = config, experiment, placement, variables
        # Of the data that samples are compared with, with the examples that training leaves out.
        self.whole = config.copy_and_resolve_references()
        self.whole.data = data.compared(config.data)
        resembled = experiment.sampler.field if experiment.sampler is not None else ''
        if resembled and resembled != config.data.observe:
            self.whole.data.update(observe=resembled, unpaired=config.data.unpaired and config.data.observe)
        self.memory: dict[tuple[str, ...], Any] = {}

    @functools.cached_property
    def samples(self) -> np.ndarray:
        """Samples [config.evaluate.count, ...].

        They use the evaluation's seed, so that runs with different training seeds are evaluated with the same noise.
        """
        evaluate = self.config.evaluate
        return rejection.draw(
            self.experiment, self.placement, self.variables, self.config, evaluate.count, evaluate.seed
        )

    @property
    def selected(self) -> dict[str, Any]:
        """How samples are selected, if they are. It joins the protocol of figures of samples."""
        return rejection.protocol(self.config)

    @property
    def asked(self) -> np.ndarray | None:
        """The requested class of each sample, int [config.evaluate.count]; None if samples have no condition."""
        conditions, numbers = self.experiment.conditions, np.arange(self.config.evaluate.count)
        if conditions.classes:
            return drawing.condition_at(self.config, conditions, self.config.evaluate.seed)(numbers)['label']
        held_out = self.config.sample.condition or conditions.fields
        if conditions.any and held_out and 'label' in self.test.fields:  # of the image that the condition belongs to
            return self.test.rows(numbers % len(self.test))['label']
        return None

    @functools.cached_property
    def test(self) -> data.Source:
        """The held-out split of what is modelled."""
        return data.load(self.config.data, 'test')

    @functools.cached_property
    def train(self) -> data.Source:
        """The training split of what is modelled."""
        return data.load(self.config.data, 'train')

    @property
    def coded(self) -> bool:
        """Whether the model learns codes of another run's tokenizer, and its samples are decoded."""
        return self.config.data.source == 'codes'

    @property
    def modelled(self) -> dict[str, str]:
        """The codes, on which a figure on codes depends besides the images. They join the protocol of such figures."""
        return {'codes': fingerprint.of(self.test).digest} if self.coded else {}

    @_memoised
    def compared(self, split: str) -> data.Source:
        """Returns a split of the data that samples are compared with: the images behind codes, and all examples."""
        trained = self.config.data
        if self.coded or (split == 'train' and (trained.leave_out or trained.limit)):
            return data.load(self.whole.data, split)
        return self.test if split == 'test' else self.train

    @property
    def images(self) -> bool:
        """Whether the modelled field is an image."""
        return not self.coded and len(self.test.fields[self.config.data.observe].shape) == 3

    @property
    def samples_are_images(self) -> bool:
        """Whether samples are images: of a model of images, or decoded from codes."""
        return len(self.compared('test').fields[self.whole.data.observe].shape) == 3

    @property
    def samples_are_points(self) -> bool:
        """Whether samples are points, and neither images nor sequences."""
        return len(self.compared('test').fields[self.whole.data.observe].shape) == 1

    @property
    def encodes(self) -> bool:
        """Whether the model encodes examples."""
        return self.experiment.codec is not None and self.experiment.codec.encode is not None

    @property
    def codec(self) -> Codec:
        """The model's codec; only for a model that has one."""
        assert self.experiment.codec is not None
        return self.experiment.codec

    @property
    def held_out(self) -> int:
        """The number of held-out examples that are used."""
        return min(len(self.test), self.config.evaluate.count)

    def chosen(self, split: str) -> np.ndarray:
        """Returns the indices of the examples that are used: the first held-out ones, or a fixed training subset."""
        if split == 'test':
            return np.arange(self.held_out)
        return np.sort(np.random.default_rng(0).permutation(len(self.train))[:KEPT])

    @_memoised
    def rows(self, split: str, field: str) -> np.ndarray:
        """Returns a field of the chosen examples as in the source, [N, ...]."""
        source = data.load(self.config.data, split, (field,) if field in self.test.on_demand else ())
        return source.rows(self.chosen(split))[field]

    @_memoised
    def flat(self, split: str) -> np.ndarray:
        """Returns flattened prepared examples, float32 [N, P].

        split: 'test' for the chosen examples, 'train' for as many training examples as NUMBERS allows.
        """
        x = self.x('test').reshape(self.held_out, -1)
        if split == 'test':
            return x
        every = np.arange(min(len(self.train), NUMBERS // x.shape[1]))
        prepared = drawing.examples(self.config, 'train')
        return np.concatenate(
            [
                np.asarray(prepared(every[first : first + 1000])['x']).reshape(-1, x.shape[1])
                for first in range(0, len(every), 1000)
            ]
        )

    def has(self, field: str) -> bool:
        """Returns whether the source has a field."""
        return field in self.test.fields or field in self.test.on_demand

    @_memoised
    def x(self, split: str) -> np.ndarray:
        """Returns the chosen examples of a split, prepared, [N, ...]."""
        return self.over(lambda variables, batch, keys: {'x': batch['x']}, split)['x']

    @_memoised
    def codes(self, split: str) -> Any:
        """Returns the codes of the chosen examples of a split, with leaves [N, ...]."""
        encode = compiled(self.codec.encode)
        return self.over(lambda variables, batch, keys: {'codes': encode(variables, batch)}, split)['codes']

    @_memoised
    def vectors(self, split: str) -> np.ndarray:
        """Returns the codes of the chosen examples of a split, one vector per example, [N, D]."""
        return vectors.flatten(self.codes(split))

    @property
    def embeds_conditions(self) -> bool:
        """Whether the model embeds the conditions of samples."""
        return self.experiment.sampler is not None and self.experiment.sampler.embed_condition is not None

    @_memoised
    def conditions(self, split: str) -> np.ndarray:
        """Returns the embedded conditions of the chosen examples of a split, [N, D]; see `embeds_conditions`."""
        assert self.experiment.sampler is not None
        embed = compiled(self.experiment.sampler.embed_condition)
        condition = functools.partial(conditioning.from_batch, self.experiment.conditions)
        return self.over(lambda variables, batch, keys: {'it': embed(variables, condition(batch))}, split)['it']

    def over(
        self,
        function: Callable,
        split: str = 'test',
        purpose: str = 'measure',
        count: int | None = None,
        indices: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Applies a function to the chosen examples of a split.

        Args:
          function: (variables, batch, keys [B]) -> {name: [B, ...]}. It is not compiled here: use `compiled`.
          split: 'test' or 'train'.
          purpose: the name of the random stream.
          count: the first of the chosen examples; None for all.
          indices: other examples of the split, int [N]; None for the chosen ones.

        Returns:
          {name: [N, ...]}.
        """
        indices = self.chosen(split)[:count] if indices is None else indices
        blocks = [*self._blocks(function, split, purpose, indices)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(indices)], *blocks)

    def _blocks(
        self, function: Callable, split: str, purpose: str, indices: np.ndarray
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields the results per block. Blocks have one shape; the last one is padded with its first examples."""
        prepared, size = drawing.examples(self.config, split), self.config.data.batch_size
        for first in range(0, len(indices), size):
            block = np.resize(indices[first : first + size], size)
            both = prepared(block), drawing.keys_at(self.config.evaluate.seed, block, purpose)
            yield parallel.run(self.placement, lambda variables, both: function(variables, *both), self.variables, both)
