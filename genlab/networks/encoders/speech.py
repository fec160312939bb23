"""An encoder of speech: convolutions over time, a recurrent layer in both directions, and the mean over time.

Li et al. 2020, section III, whose encoder has eight convolutions and an LSTM. Frames are normalised one by one (layer
normalisation), where the paper normalises over a batch: statistics of a batch would depend on its padding.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genlab.networks.layers.convolution import Conv
from genlab.networks.layers.dropout import Dropout
from genlab.networks.layers.normalization import LayerNorm
from genlab.networks.layers.recurrent import BidirectionalGRU


class SpeechEncoder(nn.Module):
    """Encodes log-mel frames [B, T, bands], of which `length` int32 [B] are valid, as embeddings float32 [B, size].

    Frames after the end do not change the embedding. Convolution i has `width` * 2^i channels and halves the time.
    keys: one typed key per example [B], or None for no dropout.
    """

    size: int
    width: int = 32
    layers: int = 2  # convolutions
    window: int = 5  # frames of a convolution, odd
    features: int = 64  # recurrent units per direction
    dropout: float = 0.0  # dropout rate of the recurrent layer's inputs and of their mean
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, speech: jax.Array, length: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        side = self.window // 2
        x, mask = speech, _mask(speech.shape[1], length)
        for i in range(self.layers):
            # Explicit padding, because 'SAME' depends on T, and T on the padding of the batch.
            settings: dict[str, Any] = {'padding': ((side, side), (0, 0)), 'use_bias': False, 'dtype': self.dtype}
            settings |= {'strides': (2, 1), 'name': f'convolution_{i}'}
            x = Conv(self.width * 2**i, (self.window, 1), **settings)(jnp.where(mask[..., None], x, 0)[:, :, None])
            x = nn.relu(LayerNorm(dtype=self.dtype, name=f'normalization_{i}')(x[:, :, 0]))
            length = (length + 1) // 2
            mask = _mask(x.shape[1], length)
        x = Dropout(self.dropout, name='input_dropout')(x, keys if train else None)
        x = BidirectionalGRU(self.features, self.dtype, name='recurrent')(x, mask)
        mean = x.sum(1) / jnp.maximum(length, 1)[:, None]
        mean = Dropout(self.dropout, name='mean_dropout')(mean, keys if train else None)
        return nn.Dense(self.size, dtype=self.dtype, name='embedding')(mean).astype(jnp.float32)


def _mask(steps: int, length: jax.Array) -> jax.Array:
    """Returns which of the steps are before the end, bool [B, steps]."""
    return jnp.arange(steps)[None] < length[:, None]
