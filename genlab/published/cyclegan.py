"""junyanz/pytorch-CycleGAN-and-pix2pix, CycleGAN: `latest_net_G_A.pth`, and the same for G_B, D_A and D_B.

G_A translates A to B and is our `forward`; D_A judges what it makes. Two networks have the same tensors, so the names
of the files count: they end with G_A, G_B, D_A or D_B.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from genlab.published.mapping import Record, Table
from genlab.published.pix2pix import discriminator, generator

DIRECTIONS = {'A': 'forward', 'B': 'back'}


def tables(config: ConfigDict) -> Mapping[str, Table]:
    """Returns the tables of the four files."""
    generators = {f'G_{name}': generator(config, direction) for name, direction in DIRECTIONS.items()}
    return generators | {
        f'D_{name}': discriminator(config, f'discriminator_{direction}') for name, direction in DIRECTIONS.items()
    }


RECORD = Record('junyanz/pytorch-CycleGAN-and-pix2pix (CycleGAN)', tables)
