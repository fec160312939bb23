"""Losses: pure functions from arrays to one number per example. The player averages over examples."""

from genlab.losses import adversarial, divergences, likelihoods, penalties, quantization, reconstruction, sparsity

__all__ = ['adversarial', 'divergences', 'likelihoods', 'penalties', 'quantization', 'reconstruction', 'sparsity']
