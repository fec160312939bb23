"""StyleGAN2, ProGAN and DCGAN at 32x32 in PyTorch, with the layers, sizes and initial values of genlab's networks.

Modulated convolutions scale inputs and outputs, which is faster on a CPU than a kernel per example. Filters are
depthwise convolutions.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import contest

GAIN = math.sqrt(2)


class Equalized(nn.Module):
    """A dense layer (side 0) or a convolution whose weights are scaled at run time."""

    def __init__(self, inputs, outputs, side=0, gain=1.0, rate=1.0, bias=0.0, use_bias=True):
        super().__init__()
        shape = (outputs, inputs, side, side) if side else (outputs, inputs)
        self.weight = nn.Parameter(torch.randn(shape) / rate)
        self.bias = nn.Parameter(torch.full([outputs], bias)) if use_bias else None
        self.scale, self.rate, self.side = gain * rate / math.sqrt(math.prod(shape[1:])), rate, side

    def forward(self, x):
        weight, bias = self.weight * self.scale, None if self.bias is None else self.bias * self.rate
        return F.conv2d(x, weight, bias, padding=self.side // 2) if self.side else F.linear(x, weight, bias)


def smooth(x, taps, padding, stride=1):
    """Filters by `taps` along both sides. A module keeps them: to send them with each call would stall a GPU."""
    kernel = (taps[:, None] * taps[None]).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=padding, stride=stride, groups=x.shape[1])


def low_pass(gain=1.0):
    """Returns the taps [1, 3, 3, 1] / 8 times `gain`."""
    return gain * torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def leaky(x):
    return F.leaky_relu(x, 0.2) * GAIN


def pixel_norm(x):
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def deviation(x, group=4):
    """Appends the minibatch standard deviation."""
    batch, _, height, width = x.shape
    y = x.reshape(batch // group, group, *x.shape[1:])
    y = ((y - y.mean(1, keepdim=True)).square().mean(1) + 1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, y.repeat_interleave(group)[:, None, None, None].expand(batch, 1, height, width)], 1)


class Modulated(nn.Module):
    def __init__(self, inputs, outputs, width, side=3, demodulate=True, up=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.style = Equalized(width, inputs, bias=1.0)
        self.demodulate, self.up, self.side = demodulate, up, side
        if up:
            self.register_buffer('taps', low_pass(2.0))

    def forward(self, x, w):
        weight, style = self.weight / math.sqrt(math.prod(self.weight.shape[1:])), self.style(w)
        x = x * style[:, :, None, None]
        if self.up:
            y = smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), self.taps, 1)
        else:
            y = F.conv2d(x, weight, padding=self.side // 2)
        if self.demodulate:
            y = y * torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + 1e-8)[:, :, None, None]
        return y


class Styled(nn.Module):
    def __init__(self, inputs, outputs, width, up=False):
        super().__init__()
        self.convolution = Modulated(inputs, outputs, width, up=up)
        self.strength, self.bias = nn.Parameter(torch.zeros([])), nn.Parameter(torch.zeros(outputs))

    def forward(self, x, w):
        x = self.convolution(x, w)
        noise = torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device)
        return leaky(x + self.strength * noise + self.bias[:, None, None])


class Mapping(nn.Module):
    def __init__(self, width=512, layers=8):
        super().__init__()
        self.layers = nn.ModuleList(Equalized(width, width, gain=GAIN, rate=0.01) for _ in range(layers))

    def forward(self, z):
        x = pixel_norm(z)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return x


class Synthesis(nn.Module):
    def __init__(self, widths, channels=3, width=512):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.doubles = nn.ModuleList(Styled(a, b, width, up=True) for a, b in zip(widths, widths[1:]))
        self.convolutions = nn.ModuleList(Styled(a, a, width) for a in widths)
        self.images = nn.ModuleList(Modulated(a, channels, width, 1, False) for a in widths)
        self.biases = nn.ParameterList(torch.zeros(channels) for _ in widths)
        self.register_buffer('taps', low_pass(2.0))

    def forward(self, w):
        x, image = self.constant.expand(w.shape[0], -1, -1, -1), None
        for i, convolution in enumerate(self.convolutions):
            if i:
                x = self.doubles[i - 1](x, w[:, 2 * i - 1])
            x = convolution(x, w[:, 2 * i])
            part = self.images[i](x, w[:, 2 * i + 1]) + self.biases[i][:, None, None]
            if image is not None:
                zeros = image.new_zeros(*image.shape[:2], 2 * image.shape[2], 2 * image.shape[3])
                zeros[:, :, ::2, ::2] = image
                part = part + smooth(F.pad(zeros, (2, 1, 2, 1)), self.taps, 0)
            image = part
        return image


class Judge(nn.Module):
    """The discriminator of StyleGAN2."""

    def __init__(self, widths, channels=3):
        super().__init__()
        down = widths[::-1]
        self.first = Equalized(channels, down[0], 1)
        self.convolutions = nn.ModuleList(Equalized(a, a, 3) for a in down[:-1])
        self.halves = nn.ModuleList(Equalized(a, b, 3) for a, b in zip(down, down[1:]))
        self.shortcuts = nn.ModuleList(Equalized(a, b, 1, use_bias=False) for a, b in zip(down, down[1:]))
        self.last = Equalized(down[-1] + 1, down[-1], 3)
        self.dense, self.logit = Equalized(16 * down[-1], down[-1]), Equalized(down[-1], 1)
        self.register_buffer('taps', low_pass())

    def forward(self, images):
        x = leaky(self.first(images))
        for convolution, half, shortcut in zip(self.convolutions, self.halves, self.shortcuts):
            h = smooth(leaky(convolution(x)), self.taps, 2)
            h = leaky(F.conv2d(h, half.weight * half.scale, half.bias, stride=2))
            x = (shortcut(smooth(x, self.taps, 1, stride=2)) + h) / math.sqrt(2)
        x = leaky(self.last(deviation(x)))
        return self.logit(leaky(self.dense(x.flatten(1))))[:, 0]


class Progressive(nn.Module):
    """The generator of ProGAN, with all levels grown."""

    def __init__(self, widths, latent=512, channels=3):
        super().__init__()
        self.dense, self.width = Equalized(latent, 16 * widths[0], gain=GAIN / 4, use_bias=False), widths[0]
        self.bias = nn.Parameter(torch.zeros(widths[0]))
        self.doubles = nn.ModuleList(Equalized(a, b, 3, GAIN) for a, b in zip(widths, widths[1:]))
        self.convolutions = nn.ModuleList(Equalized(a, a, 3, GAIN) for a in widths)
        self.image = Equalized(widths[-1], channels, 1)

    def forward(self, z):
        x = self.dense(pixel_norm(z)).reshape(-1, self.width, 4, 4) + self.bias[:, None, None]
        x = pixel_norm(F.leaky_relu(x, 0.2))
        for i, convolution in enumerate(self.convolutions):
            if i:
                x = self.doubles[i - 1](F.interpolate(x, scale_factor=2))
                x = pixel_norm(F.leaky_relu(x, 0.2))
            x = pixel_norm(F.leaky_relu(convolution(x), 0.2))
        return self.image(x)


class Critic(nn.Module):
    """The discriminator of ProGAN, with all levels grown."""

    def __init__(self, widths, channels=3):
        super().__init__()
        down = widths[::-1]
        self.first = Equalized(channels, down[0], 1, GAIN)
        self.convolutions = nn.ModuleList(Equalized(a, a, 3, GAIN) for a in down[:-1])
        self.halves = nn.ModuleList(Equalized(a, b, 3, GAIN) for a, b in zip(down, down[1:]))
        self.last = Equalized(down[-1] + 1, down[-1], 3, GAIN)
        self.dense, self.logit = Equalized(16 * down[-1], down[-1], gain=GAIN), Equalized(down[-1], 1)

    def forward(self, images):
        x = F.leaky_relu(self.first(images), 0.2)
        for convolution, half in zip(self.convolutions, self.halves):
            x = F.leaky_relu(convolution(x), 0.2)
            x = F.leaky_relu(F.avg_pool2d(half(x), 2), 0.2)
        x = F.leaky_relu(self.last(deviation(x)), 0.2)
        return self.logit(F.leaky_relu(self.dense(x.flatten(1)), 0.2))[:, 0]


def adam(rate, b1, b2, *modules):
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return contest.adam(parameters, rate, (float(b1), b2), fused=False)


def stylegan2_steps(images, moved, fast, widths):
    """Returns a function that does 16 steps: R1 in the first one, path lengths in every fourth."""
    size, layers, device = images.shape[0], 2 * len(widths), images.device
    mapping, synthesis, judge = Mapping(), moved(Synthesis(widths)), moved(Judge(widths))
    optimizers = adam(2e-3 * 16 / 17, 0, 0.99 ** (16 / 17), judge), adam(2e-3 * 4 / 5, 0, 0.99**0.8, mapping, synthesis)
    map_, synthesise, discriminate = (fast(module) for module in (mapping, synthesis, judge))
    mean = torch.zeros([])

    def styles():
        first, second = (map_(torch.randn(size, 512, device=device))[:, None].expand(-1, layers, -1) for _ in range(2))
        cut = torch.randint(1, layers, (size,), device=device)
        cut = cut.masked_fill(torch.rand(size, device=device) >= 0.9, layers)
        return torch.where(torch.arange(layers, device=device)[None, :, None] < cut[:, None, None], first, second)

    def run():
        for step in range(16):
            w = styles()
            fake = synthesise(w)
            optimizers[0].zero_grad()
            real = images.detach().requires_grad_(step == 0)
            logits = judge(real) if step == 0 else discriminate(real)  # torch.compile does not differentiate twice
            loss = F.softplus(-logits).mean() + F.softplus(discriminate(fake.detach())).mean()
            if step == 0:
                (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
                loss = loss + 16 * 0.1 / 2 * gradient.square().sum((1, 2, 3)).mean()
            loss.backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            judge.requires_grad_(False)
            loss = F.softplus(-discriminate(fake)).mean()
            if step % 4 == 0:
                half = w[::2]
                drawn = synthesis(half)
                noise = torch.randn_like(drawn) / drawn.shape[2]
                (gradient,) = torch.autograd.grad((drawn * noise).sum(), half, create_graph=True)
                lengths = gradient.square().sum(2).mean(1).sqrt()
                mean.lerp_(lengths.detach().mean(), 0.01)  # in place: a CUDA graph repeats addresses
                loss = loss + 4 * 2 * (lengths - mean).square().mean()
            loss.backward()
            judge.requires_grad_(True)
            optimizers[1].step()

    return run


def progan_step(images, moved, fast, widths):
    """Returns a function that does one step with the gradient penalty and the drift term."""
    generator, critic = moved(Progressive(widths)), moved(Critic(widths))
    optimizers = adam(1e-3, 0, 0.99, critic), adam(1e-3, 0, 0.99, generator)
    generate, judge = fast(generator), fast(critic)

    def run():
        fake = generate(torch.randn(images.shape[0], 512, device=images.device))
        optimizers[0].zero_grad()
        real_logits = judge(images)
        mixing = torch.rand(images.shape[0], 1, 1, 1, device=images.device)
        between = (mixing * images + (1 - mixing) * fake.detach()).requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = 10 * (gradient.square().sum((1, 2, 3)).sqrt() - 1).square()
        (judge(fake.detach()) - real_logits + penalty + 0.001 * real_logits.square()).mean().backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        critic.requires_grad_(False)
        (-judge(fake)).mean().backward()
        critic.requires_grad_(True)
        optimizers[1].step()

    return run


def dcgan_step(images, moved, fast):
    """Returns a function that does one step of DCGAN at 32x32 with width 64."""
    norm, up, down = nn.BatchNorm2d, nn.ConvTranspose2d, nn.Conv2d
    layer = lambda kind, n, m, activation: (kind(n, m, 4, 2, 1, bias=False), norm(m), activation)
    relu, leaky = nn.ReLU(True), nn.LeakyReLU(0.2, True)
    generator = nn.Sequential(
        up(100, 256, 4, 1, 0, bias=False),
        norm(256),
        relu,
        *layer(up, 256, 128, relu),
        *layer(up, 128, 64, relu),
        up(64, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    critic = nn.Sequential(
        down(3, 64, 4, 2, 1, bias=False),
        leaky,
        *layer(down, 64, 128, leaky),
        *layer(down, 128, 256, leaky),
        down(256, 1, 4, 1, 0, bias=False),
    )
    generator, critic = moved(generator), moved(critic)
    optimizers = adam(2e-4, 0.5, 0.999, critic), adam(2e-4, 0.5, 0.999, generator)
    generate, judge = fast(generator), fast(critic)

    def run():
        fake = generate(torch.randn(images.shape[0], 100, 1, 1, device=images.device))
        optimizers[0].zero_grad()
        (F.softplus(-judge(images)).mean() + F.softplus(judge(fake.detach())).mean()).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        critic.requires_grad_(False)
        F.softplus(-judge(fake)).mean().backward()
        critic.requires_grad_(True)
        optimizers[1].step()

    return run
