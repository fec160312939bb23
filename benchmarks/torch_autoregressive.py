"""PixelCNN++ and a causal transformer in PyTorch, with the layers and sizes of genlab's, and their training steps."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import contest


class Weights(nn.Module):
    """Holds a kernel with weight normalisation over all axes but the one of the outputs, and a bias."""

    def __init__(self, shape, outputs_axis=0, scale=1.0):
        super().__init__()
        kernel = torch.randn(shape)
        kernel /= kernel[0].numel() ** 0.5
        self.axes = [axis for axis in range(len(shape)) if axis != outputs_axis]
        self.kernel = nn.Parameter(kernel)
        self.gain = nn.Parameter(scale * kernel.square().sum(self.axes, keepdim=True).sqrt())
        self.bias = nn.Parameter(torch.zeros(shape[outputs_axis]))

    def weight(self):
        return self.kernel * (self.gain * torch.rsqrt(self.kernel.square().sum(self.axes, keepdim=True)))


class Causal(Weights):
    """Convolves with a kernel that sees rows above and columns on both sides, or to the left for `left`."""

    def __init__(self, inputs, outputs, size, left, shift=False, stride=1, scale=1.0):
        super().__init__((outputs, inputs, *size), scale=scale)
        (height, width), moved = size, int(shift)
        self.stride, self.left, self.moved = stride, left, moved
        sides = (width - 1 + moved, 0) if left else (width // 2, width // 2)
        self.padding = (*sides, height - 1 + (0 if left else moved), 0)

    def forward(self, x):
        if self.moved:
            x = x[..., :-1] if self.left else x[:, :, :-1]
        return F.conv2d(F.pad(x, self.padding), self.weight(), self.bias, self.stride)


class Upsample(Weights):
    """Doubles the side by a transposed convolution whose kernel has two rows."""

    def __init__(self, width, size):
        super().__init__((width, width, *size), outputs_axis=1)
        self.cropped = size[1] - 2  # columns before the first

    def forward(self, x):
        return F.conv_transpose2d(x, self.weight(), self.bias, 2)[..., self.cropped :]


class Pointwise(Weights):
    """Applies a 1x1 convolution."""

    def __init__(self, inputs, outputs):
        super().__init__((outputs, inputs, 1, 1))

    def forward(self, x):
        return F.conv2d(x, self.weight(), self.bias)


def concat_elu(x):
    return F.elu(torch.cat([x, -x], 1))


class Block(nn.Module):
    """Adds two convolutions and a gate."""

    def __init__(self, width, size, left, auxiliary, dropout):
        super().__init__()
        self.first = Causal(2 * width, width, size, left)
        self.second = Causal(2 * width, 2 * width, size, left, scale=0.1)
        self.beside = Pointwise(2 * auxiliary * width, width) if auxiliary else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, auxiliary=None):
        h = self.first(concat_elu(x))
        if auxiliary is not None:
            h = h + self.beside(concat_elu(auxiliary))
        return x + F.glu(self.second(self.dropout(concat_elu(h))), 1)


class Stream(nn.Module):
    """The layers of one stream, level by level."""

    def __init__(self, width, blocks, levels, left, dropout):
        super().__init__()
        size, last = (2, 2) if left else (2, 3), levels - 1
        block = lambda auxiliary: Block(width, size, left, auxiliary, dropout)
        self.encoder = nn.ModuleList(nn.ModuleList(block(int(left)) for _ in range(blocks)) for _ in range(levels))
        self.decoder = nn.ModuleList(
            nn.ModuleList(block(1 + left) for _ in range(blocks + (level < last))) for level in range(levels)
        )
        self.shrink = nn.ModuleList(Causal(width, width, size, left, stride=2) for _ in range(last))
        self.grow = nn.ModuleList(Upsample(width, size) for _ in range(last))

    def forward(self, x, above=None, level=0):
        """Returns features, and the features of all blocks in order. `above`: features of the other stream."""
        shortcuts, found = [x], []
        for block in self.encoder[level]:
            shortcuts.append(block(shortcuts[-1], above.pop(0) if above else None))
            found.append(shortcuts[-1])
        if level < len(self.shrink):
            x, more = self(self.shrink[level](shortcuts[-1]), above, level + 1)
            x, found = self.grow[level](x), found + more
        else:
            x = shortcuts.pop()
        for block in self.decoder[level]:
            shortcut = shortcuts.pop()
            x = block(x, torch.cat([above.pop(0), shortcut], 1) if above else shortcut)
            found.append(x)
        return x, found


class PixelCNNPP(nn.Module):
    """Maps images [B, C, H, W] to parameters of a mixture per pixel."""

    def __init__(self, channels, outputs, width, blocks, levels=3, dropout=0.5):
        super().__init__()
        self.first_above = Causal(channels + 1, width, (2, 3), False, shift=True)
        self.first_row = Causal(channels + 1, width, (1, 3), False, shift=True)
        self.first_left = Causal(channels + 1, width, (2, 1), True, shift=True)
        self.above = Stream(width, blocks, levels, False, dropout)
        self.left = Stream(width, blocks, levels, True, dropout)
        self.output = Pointwise(width, outputs)

    def forward(self, x):
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        _, above = self.above(self.first_above(x))
        h, _ = self.left(self.first_row(x) + self.first_left(x), above)
        return self.output(F.elu(h))


def grey_loss(x, outputs):
    """Returns the mean negative log-likelihood of images [B, 1, H, W] under mixtures of discretised logistics."""
    logits, means, log_scales = outputs.unflatten(1, (3, -1)).unbind(1)
    half, sharpness = 1 / 255, torch.exp(-log_scales.clamp(min=-7))
    above, below = (x + half - means) * sharpness, (x - half - means) * sharpness
    log_below, log_above = -F.softplus(-above), -F.softplus(below)
    between = log_below + log_above + torch.log(-torch.expm1(-2 * half * sharpness))
    chosen = torch.where(x < half - 1, log_below, torch.where(x > 1 - half, log_above, between))
    return -torch.logsumexp(F.log_softmax(logits, 1) + chosen, 1).sum((1, 2)).mean()


def pixelcnn_pp_step(images, moved, fast, width, blocks, mixtures=10):
    """Returns a function that does one step of Adam.

    Args:
      images: [B, 1, H, W] in [-1, 1].
      moved: from a module to the module in another memory layout.
      fast: from a module to a faster one.
      width: channels.
      blocks: gated residual blocks per level.
      mixtures: components.
    """
    return step_of(moved(PixelCNNPP(images.shape[1], 3 * mixtures, width, blocks)), fast, grey_loss, images)


def step_of(network, fast, loss, x):
    """Returns a function that does one step of the fused Adam on the mean `loss(x, outputs)`."""
    optimizer, forward = contest.adam(network.parameters(), 2e-4), fast(network)

    def run():
        optimizer.zero_grad()
        loss(x, forward(x)).backward()
        optimizer.step()

    return run


class TransformerBlock(nn.Module):
    """Adds causal self-attention and a hidden layer, each after a normalisation."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.hidden_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden, self.hidden_output = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        joined = self.query_key_value(self.attention_norm(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.output(mixed.transpose(1, 2).flatten(2)))
        hidden = F.gelu(self.hidden(self.hidden_norm(x)), approximate='tanh')
        return x + self.dropout(self.hidden_output(hidden))


class Transformer(nn.Module):
    """Maps tokens [B, h, w] to logits [B, h * w, entries], of each token from those before."""

    def __init__(self, side, entries, width, depth, heads, dropout):
        super().__init__()
        self.start, self.embed = nn.Parameter(0.02 * torch.randn(1, 1, width)), nn.Embedding(entries, width)
        self.rows, self.columns = (nn.Parameter(0.02 * torch.randn(side, width)) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, dropout) for _ in range(depth)))
        self.norm, self.logits = nn.LayerNorm(width), nn.Linear(width, entries)

    def forward(self, x):
        places = (self.rows[:, None] + self.columns[None]).flatten(0, 1)
        tokens = (self.embed(x.flatten(1)) + places)[:, :-1]
        h = torch.cat([self.start.expand(len(x), -1, -1), tokens], 1)
        return self.logits(self.norm(self.blocks(self.dropout(h))))


def token_loss(x, logits):
    """Returns the mean negative log-likelihood of tokens [B, h, w]."""
    return F.cross_entropy(logits.flatten(0, 1), x.flatten(), reduction='sum') / len(x)


def transformer_step(tokens, fast, entries, width, depth, heads, dropout):
    """Returns a function that does one step of Adam.

    Args:
      tokens: int64 [B, h, h].
      fast: from a module to a faster one.
      entries: of a token.
      width, depth, heads, dropout: of the network.
    """
    return step_of(Transformer(tokens.shape[1], entries, width, depth, heads, dropout), fast, token_loss, tokens)
