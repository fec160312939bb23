"""Losses: pure functions, arrays in, one number per example out; the mean over examples is taken by the player."""

from genlab.losses import adversarial, divergences, likelihoods, penalties, quantization, reconstruction, sparsity

__all__ = ['adversarial', 'divergences', 'likelihoods', 'penalties', 'quantization', 'reconstruction', 'sparsity']
