"""Two things of one name: `genlab.data.prepare`, the function that the train step runs on a batch, and
`python -m genlab.data.prepare`, the command that downloads a TFDS set and writes it as ArrayRecord (__main__.py).

This is a package so that both hold: `genlab.data.prepare` stays the function whatever is imported later.
"""

from genlab.data.transforms import prepare  # noqa: F401
