"""The model that is judged, and what several judges need of it: drawn, loaded and encoded once."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from genlab import data
from genlab.experiment import Experiment
from genlab.sampling import drawing
from genlab.training import parallel

KEPT = 10_000  # training examples that judges learn from,
NUMBERS = 2**26  # except PCA, which takes as many as are this many numbers: all of MNIST


class Part(NamedTuple):
    """What one judge found."""

    protocol: Mapping[str, Any]  # what its figures depend on, plain values
    figures: Mapping[str, Any]  # name -> number, class -> number, or words where there are too few examples
    pictures: Mapping[str, np.ndarray] = {}  # name -> uint8 [H, W, C]
    rates: Mapping[str, float] = {}  # what was done -> how many a second


class Subject:
    """A model, its config and its data. What is dear is made when it is first asked for, and kept."""

    def __init__(self, config: ConfigDict, experiment: Experiment, placement: parallel.Placement, variables):
        self.config, self.experiment, self.placement, self.variables = config, experiment, placement, variables
        self.whole = config.copy_and_resolve_references()  # a judge knows the classes that the model never saw
        self.whole.data.leave_out = ()
        # Kept by the subject itself: a cache of the class would keep the arrays of every model that was ever judged.
        self.rows, self.flat, self.x, self.codes = map(functools.cache, (self.rows, self.flat, self.x, self.codes))

    @functools.cached_property
    def samples(self) -> np.ndarray:
        """[config.evaluate.count, ...] by the evaluation's own seed: runs of different seeds are judged alike."""
        evaluate = self.config.evaluate
        return drawing.draw(self.experiment, self.placement, self.variables, self.config, evaluate.count, evaluate.seed)

    @functools.cached_property
    def test(self) -> data.Source:
        return data.load(self.config.data, 'test')

    @functools.cached_property
    def train(self) -> data.Source:
        """What the model learnt from."""
        return data.load(self.config.data, 'train')

    @property
    def images(self) -> bool:
        """Whether what is modelled is images."""
        return len(self.test.fields[self.config.data.observe].shape) == 3

    @property
    def encodes(self) -> bool:
        """Whether the model encodes examples."""
        return self.experiment.codec is not None and self.experiment.codec.encode is not None

    @property
    def held_out(self) -> int:
        """How many held-out examples are looked at."""
        return min(len(self.test), self.config.evaluate.count)

    def chosen(self, split: str) -> np.ndarray:
        """The indices that judges use: the first held-out examples, or training examples drawn once and for all."""
        if split == 'test':
            return np.arange(self.held_out)
        return np.sort(np.random.default_rng(0).permutation(len(self.train))[:KEPT])

    def rows(self, split: str, field: str) -> np.ndarray:
        """A field of the chosen examples of a split as the source has it; [N, ...]."""
        source = data.load(self.config.data, split, (field,) if field in self._drawn() else ())
        return source.rows(self.chosen(split))[field]

    def flat(self, split: str) -> np.ndarray:
        """What is modelled in one row, float32 [N, P]: of the chosen held-out examples, and of nearly all training examples."""
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

    def _drawn(self) -> tuple[str, ...]:
        """Returns the fields that the source adds only if they are requested."""
        return self.test.on_demand

    def has(self, field: str) -> bool:
        return field in self.test.fields or field in self._drawn()

    def x(self, split: str) -> np.ndarray:
        """What is modelled, of the chosen examples of a split, prepared."""
        return self.over(lambda variables, batch, keys: {'x': batch['x']}, split)['x']

    def codes(self, split: str) -> np.ndarray:
        """The codes of the chosen examples of a split; [N, ...]."""
        encode = drawing.jitted(self.experiment.codec.encode)
        return self.over(lambda variables, batch, keys: {'codes': encode(variables, batch)}, split)['codes']

    def over(
        self, function: Callable, split: str = 'test', purpose: str = 'measure', count: int | None = None
    ) -> dict[str, np.ndarray]:
        """{name: [N, ...]} of `function(variables, batch, keys) -> {name: [B, ...]}` over the chosen examples of a split, or
        the first `count` of them.

        The function is not compiled here: give it what `drawing.jitted` made of the model's abilities."""
        indices = self.chosen(split)[:count]
        parts = [*self._blocks(function, split, purpose, indices)]
        return {name: np.concatenate([part[name] for part in parts])[: len(indices)] for name in parts[0]}

    def _blocks(
        self, function: Callable, split: str, purpose: str, indices: np.ndarray
    ) -> Iterator[dict[str, np.ndarray]]:
        """Blocks of one shape, compiled once; the last is filled up with examples from the start."""
        prepared, size = drawing.examples(self.config, split), self.config.data.batch_size
        for first in range(0, len(indices), size):
            block = np.resize(indices[first : first + size], size)
            both = prepared(block), drawing.keys_at(self.config.evaluate.seed, block, purpose)
            yield parallel.run(self.placement, lambda variables, both: function(variables, *both), self.variables, both)
