"""pix2pix and CycleGAN in PyTorch, with the layers, sizes and initial values of genlab's networks.

pix2pix normalises batches of one over the batch. genlab writes this as instance normalisation with a scale and a bias.
Adam is the fused one, the fastest on a CPU.
"""

import itertools
import random

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import contest


class UNet(nn.Module):
    """The U-Net of pix2pix, whose depth halves `side` to 1."""

    def __init__(self, side, width, channels=3):
        super().__init__()
        depth = side.bit_length() - 1
        widths = [width * min(2**i, 8) for i in range(depth)]
        convolution = lambda a, b: nn.Conv2d(a, b, 4, 2, 1, bias=False)
        transposed = lambda a, b, bias=False: nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias)
        self.downs = nn.ModuleList(convolution(a, b) for a, b in zip([channels, *widths], widths))
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(n) for n in widths[1:-1])
        self.ups = nn.ModuleList(
            transposed(widths[i + 1] * (1 if i == depth - 2 else 2), widths[i]) for i in reversed(range(depth - 1))
        )
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(n) for n in reversed(widths[:-1]))
        self.output = transposed(widths[0] * 2, channels, True)

    def forward(self, x):
        skips = []
        for i, down in enumerate(self.downs):
            x = down(x if i == 0 else F.leaky_relu(x, 0.2))
            if 0 < i < len(self.downs) - 1:
                x = self.down_norms[i - 1](x)
            skips.append(x)
        skips.pop()
        for i, (up, norm) in enumerate(zip(self.ups, self.up_norms)):
            x = norm(up(F.relu(x)))
            if i < 3:
                x = F.dropout(x, 0.5)
            x = torch.cat([skips.pop(), x], 1)
        return torch.tanh(self.output(F.relu(x)))


def resnet(width, blocks=9, channels=3):
    """Returns the residual network of CycleGAN."""
    norm, relu = nn.InstanceNorm2d, lambda: nn.ReLU(True)
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), norm(width), relu()]
    for a in (width, 2 * width):
        layers += [nn.Conv2d(a, 2 * a, 3, 2, 1), norm(2 * a), relu()]
    layers += [Block(4 * width) for _ in range(blocks)]
    for a in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(a, a // 2, 3, 2, 1, output_padding=1), norm(a // 2), relu()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        half = lambda: [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)]
        self.layers = nn.Sequential(*half(), nn.ReLU(True), *half())

    def forward(self, x):
        return x + self.layers(x)


def patch(channels, width, norm, bias):
    """Returns the patch discriminator of three layers."""
    leaky = lambda: nn.LeakyReLU(0.2, True)
    layers = [nn.Conv2d(channels, width, 4, 2, 1), leaky()]
    for n, stride in ((1, 2), (2, 2), (4, 1)):
        layers += [nn.Conv2d(n * width, 2 * n * width, 4, stride, 1, bias=bias), norm(2 * n * width), leaky()]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


def initialised(module):
    """Draws kernels from N(0, 0.02) and scales from N(1, 0.02)."""
    for name, leaf in module.named_parameters():
        if name.endswith('weight'):
            nn.init.normal_(leaf, 1.0 if leaf.ndim == 1 else 0.0, 0.02)
        else:
            nn.init.zeros_(leaf)
    return module


def adam(*modules):
    return contest.adam(itertools.chain(*(module.parameters() for module in modules)), 2e-4, (0.5, 0.999))


def pix2pix_step(given, images, moved, fast, width):
    """Returns a function that does one step of pix2pix."""
    generator = moved(initialised(UNet(images.shape[-1], width)))
    critic = moved(initialised(patch(6, width, nn.BatchNorm2d, False)))
    optimizers = adam(critic), adam(generator)
    generate, judge = fast(generator), fast(critic)

    def run():
        fake = generate(given)
        optimizers[0].zero_grad()
        real_logits = judge(torch.cat([given, images], 1))
        fake_logits = judge(torch.cat([given, fake.detach()], 1))
        (0.5 * (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean())).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        critic.requires_grad_(False)
        (F.softplus(-judge(torch.cat([given, fake], 1))).mean() + 100 * F.l1_loss(fake, images)).backward()
        critic.requires_grad_(True)
        optimizers[1].step()

    return run


class Pool:
    """Shows a fake, or with probability 1/2 an earlier one, which the fake replaces."""

    def __init__(self, size=50):
        self.size, self.images = size, []

    def __call__(self, images):
        shown = []
        for image in images.detach().split(1):
            if len(self.images) < self.size:
                self.images.append(image)
            elif random.random() < 0.5:
                place = random.randrange(self.size)
                image, self.images[place] = self.images[place], image
            shown.append(image)
        return torch.cat(shown)


def cyclegan_step(first, second, moved, fast, width):
    """Returns a function that does one step of CycleGAN."""
    generators = [moved(initialised(resnet(width))) for _ in range(2)]  # to the second domain, and to the first
    critics = [moved(initialised(patch(3, width, nn.InstanceNorm2d, True))) for _ in range(2)]
    optimizers, pools = (adam(*critics), adam(*generators)), (Pool(), Pool())
    forward, back = map(fast, generators)
    judges = [fast(critic) for critic in critics]

    def run():
        fakes = forward(first), back(second)
        optimizers[0].zero_grad()
        loss = 0
        for judge, pool, fake, real in zip(judges, pools, fakes, (second, first)):
            loss = loss + 0.5 * ((judge(real) - 1).square().mean() + judge(pool(fake)).square().mean())
        loss.backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        for critic in critics:
            critic.requires_grad_(False)
        loss = sum((judge(fake) - 1).square().mean() for judge, fake in zip(judges, fakes))
        loss = loss + 10 * (F.l1_loss(back(fakes[0]), first) + F.l1_loss(forward(fakes[1]), second))
        loss = loss + 5 * (F.l1_loss(forward(second), second) + F.l1_loss(back(first), first))
        loss.backward()
        for critic in critics:
            critic.requires_grad_(True)
        optimizers[1].step()

    return run
