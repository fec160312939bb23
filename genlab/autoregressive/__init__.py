"""Decoding of models over discrete places: pure functions around a network that is already bound.

decoding    one place after another with a cache, in one loop; completion of known places
filters     temperature, top-k, top-p and guidance of logits
masking     mask schedules, iterative decoding (MaskGIT), diffusion with an absorbing state
conditions  labels and captions as keyword arguments of a network, dropped at random in training
tokens      how data become tokens of a grid, and back
"""
