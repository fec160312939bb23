"""The abilities of a model: what tools can do with it besides training. Each is a typed function; some form groups.

Every group is optional, and so is every field with a default. Tools skip what a model does not have. Shapes: B and N
are numbers of examples, H x W x C the sides and channels of an image. Images lie in [-1, 1]; points [B, D] and
sequences [B, T, D] keep their values. Keys [N] are one typed key per example, so that example i does not depend on the
batch that contains it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax

from genlab.conditioning import Condition

Variables = Mapping[str, Any]  # network -> {'params': ..., collection: ...}, as `State.variables()` gives
Batch = Mapping[
    str, jax.Array
]  # a prepared batch, leaves [B, ...]: `x`, `position`, and `label`, `caption`, ... if any
Codes = Any  # a pytree with leaves [B, ...]: floats, or int32 entries of a codebook


class Sample(Protocol):
    def __call__(self, variables: Variables, keys: jax.Array, condition: Condition) -> jax.Array:
        """Draws one sample per key, [N, ...]. `condition` has leaves [N, ...]; see `genlab.conditioning`."""


class SampleWithLikelihood(Protocol):
    def __call__(
        self, variables: Variables, keys: jax.Array, condition: Condition
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws as `Sample` does. Returns also the exact log-likelihoods of what the model drew, nats [N].

        The first is given the condition, the second given the null condition.
        """


class EmbedCondition(Protocol):
    def __call__(self, variables: Variables, condition: Condition) -> jax.Array:
        """Embeds conditions as the model reads them: [N, D]. Leaves of `condition` are [N, ...]."""


class Inpaint(Protocol):
    def __call__(
        self, variables: Variables, batch: Batch, mask: jax.Array, keys: jax.Array, condition: Condition
    ) -> jax.Array:
        """Resamples the pixels of batch['x'] where `mask` [B, H, W, 1] is 0, and keeps the others: [B, H, W, C].

        The batch holds images, even if the model itself generates their codes.
        """


class ImageToImage(Protocol):
    def __call__(self, variables: Variables, batch: Batch, keys: jax.Array, condition: Condition) -> jax.Array:
        """Translates batch['x'], images as for `Inpaint`, keeping its coarse structure: [B, H, W, C]."""


class Encode(Protocol):
    def __call__(self, variables: Variables, batch: Batch) -> Codes:
        """Encodes a batch. The codes carry everything that `decode` needs, a class included."""


class Decode(Protocol):
    def __call__(self, variables: Variables, codes: Codes) -> jax.Array:
        """Decodes codes to images or points, [B, ...]."""


class Prior(Protocol):
    def __call__(self, variables: Variables, keys: jax.Array) -> Codes:
        """Draws one code per key. Decoded, they are samples."""


class Mix(Protocol):
    def __call__(self, variables: Variables, coarse: Codes, fine: Codes) -> jax.Array:
        """Combines the coarse features of one code with the fine features of another: [B, H, W, C]."""


class Truncate(Protocol):
    def __call__(self, variables: Variables, codes: Codes, share: jax.Array) -> Codes:
        """Moves codes towards the mean code, to `share` [B] of their distance."""


class Directions(Protocol):
    def __call__(self, variables: Variables) -> jax.Array:
        """Returns directions [K, D] in the space of flat codes, unit vectors, the most influential first."""


class Filters(Protocol):
    def __call__(self, variables: Variables) -> jax.Array:
        """Returns the weights between each code unit and the pixels, as images of any range: [K, H, W, C]."""


class Measure(Protocol):
    def __call__(self, variables: Variables, batch: Batch, keys: jax.Array) -> Mapping[str, jax.Array]:
        """Measures held-out examples: {name: [B]}.

        Names are free, but these mean the same everywhere. `nll`: negative log-likelihood of the data, in nats (8-bit
        levels, or bits where they are binarised). `nll_bound`: an upper bound of it. `nll_codes`, `nll_codes_bound`:
        the same of the codes of a tokenizer. `squared_error`: summed over the pixels of an image in [0, 1], or over
        the coordinates of a point.
        """


class PerExample(Protocol):
    def __call__(self, variables: Variables, batch: Batch, keys: jax.Array) -> jax.Array:
        """Returns one number per example, [B]."""


class LogWeights(Protocol):
    def __call__(self, variables: Variables, keys: jax.Array) -> jax.Array:
        """Returns the log of one unbiased estimate of the normaliser Z of the model per key, [N] nats."""


class Reconstruct(Protocol):
    def __call__(self, variables: Variables, batch: Batch, keys: jax.Array) -> Mapping[str, jax.Array]:
        """Returns {'input', 'output'}: what the model sees of each example, and its reconstruction."""


class Sampler(NamedTuple):
    """Ways to make new data."""

    sample: Sample
    inpaint: Inpaint | None = None
    image_to_image: ImageToImage | None = None
    with_likelihood: SampleWithLikelihood | None = None
    embed_condition: EmbedCondition | None = None  # embedding of the condition, before generation
    field: str = ''  # the field of the source that samples resemble; '': the modelled one


class Codec(NamedTuple):
    """Ways between data and codes."""

    decode: Decode
    encode: Encode | None = None
    prior: Prior | None = None
    mix: Mix | None = None
    truncate: Truncate | None = None
    directions: Directions | None = None  # from the weights alone, without examples
    filters: Filters | None = None
    entries: int = 0  # number of entries of the codebook; 0 where codes are continuous
    continuous: Any = None  # with a codebook: the Codec before quantisation, whose `decode` quantises first


class Likelihood(NamedTuple):
    """Estimates of the log-likelihood, in nats per example."""

    log_weight: PerExample | None = None  # log p(x, z) - log q(z | x), one latent per key
    exact: PerExample | None = None  # an exact log-density; expensive
    # Of a model whose normaliser Z is estimated: log p(x) + log Z, and estimates of Z by annealed importance sampling.
    unnormalised: PerExample | None = None
    annealed: LogWeights | None = None
