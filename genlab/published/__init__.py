"""Published weights: readers of their files, and one record per network that maps its tensors to ours, both ways.

files       reads and writes the formats; torch_file reads PyTorch's without executing anything
mapping     tables of renames and layouts, and their application
runs        makes a run folder of a file, and a file of a run
<peer>      the record of one published network, the constant RECORD

`CONFIGS` says for every file of configs/ which records it has, or why it has none.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genlab.published.mapping import Record

RECORDS = (  # modules of this package
    'pytorch_dcgan',
    'diffusers_ddpm',
    'improved_diffusion',
    'dit',
    'edm',
    'kl_f8',
    'diffusers_vae',
    'stylegan2_ada',
    'pix2pix',
    'cyclegan',
    'taming_vqgan',
    'rosinality_vq_vae2',
    'rosinality_pixelsnail',
    'pclucas14_pixelcnn_pp',
    'zalando_vq_vae',
)
OWN = 'genlab'  # the name of the record of files that genlab wrote: our paths and layouts

_NO_WEIGHTS = 'no public weights of this system are known'
_DIGITS = 'trained on digits here; no weights were published'
_OTHER_LAYOUT = 'weights exist; no record yet'
_TABLES = 'its parameters are estimated in seconds'

CONFIGS: dict[str, tuple[str, ...] | str] = {  # names of records, or why there is none
    'adversarial_ae': _NO_WEIGHTS,
    'beta_tcvae': _NO_WEIGHTS,
    'cgan': _NO_WEIGHTS,
    'conditional_vae': _NO_WEIGHTS,
    'consistency': _OTHER_LAYOUT,
    'conv_ae': _DIGITS,
    'cyclegan': ('cyclegan',),
    'dalle': 'the weights of the paper were not published',
    'dbn': _NO_WEIGHTS,
    'dcgan': ('pytorch_dcgan',),
    'ddpm': ('diffusers_ddpm',),
    'deep_ae': _DIGITS,
    'denoising_ae': _DIGITS,
    'diffusion_toy': _DIGITS,
    'dit': ('dit',),
    'dvae': 'the published encoder and decoder of DALL-E are larger networks of another design',
    'edm': ('edm',),
    'flow_matching': _OTHER_LAYOUT,
    'fsq_vae': _NO_WEIGHTS,
    'gan': _DIGITS,
    'gigagan': 'the weights of the paper were not published',
    'gmm': _TABLES,
    'hierarchical_vae': _OTHER_LAYOUT,
    'hmm': _TABLES,
    'improved_ddpm': ('improved_diffusion',),
    'latent_diffusion': _OTHER_LAYOUT,
    'linear_ae': _DIGITS,
    'lostgan': _OTHER_LAYOUT,
    'masked_diffusion': _OTHER_LAYOUT,
    'meanflow': _OTHER_LAYOUT,
    'pix2pix': ('pix2pix',),
    'pixelcnn': _NO_WEIGHTS,
    'pixelcnn_pp': ('pclucas14_pixelcnn_pp',),
    'prior_maskgit': _OTHER_LAYOUT,
    'prior_pixelcnn': 'a prior over the codes of a tokenizer of your own',
    'prior_pixelsnail': ('rosinality_pixelsnail',),
    'prior_transformer': _OTHER_LAYOUT,
    'progan': _OTHER_LAYOUT,
    'r3gan': _OTHER_LAYOUT,
    'rbm': _NO_WEIGHTS,
    'shortcut': _OTHER_LAYOUT,
    'sngan': _OTHER_LAYOUT,
    'sparse_ae': _DIGITS,
    'speech2image': _NO_WEIGHTS,
    'stacked_ae': _DIGITS,
    'stacked_digits': _DIGITS,
    'stylegan': _OTHER_LAYOUT,
    'stylegan2': ('stylegan2_ada',),
    'swiss_roll_ae': _DIGITS,
    'vae': ('kl_f8', 'diffusers_vae'),
    'vae_gan': _NO_WEIGHTS,
    'vdm': _OTHER_LAYOUT,
    'vq_vae': ('zalando_vq_vae',),
    'vq_vae2': ('rosinality_vq_vae2',),
    'vqgan': ('taming_vqgan',),
    'wgan_gp': _NO_WEIGHTS,
}


def record(name: str) -> 'Record':
    """Returns the record of a name in `RECORDS`."""
    found: Record = importlib.import_module(f'{__name__}.{name}').RECORD
    return found
