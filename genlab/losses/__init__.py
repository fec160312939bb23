"""Losses: pure functions, arrays in, one number per example out; the mean over examples is taken by the player."""

from genlab.losses import adversarial, penalties

__all__ = ['adversarial', 'penalties']
