"""Loads data: sources with random access, batches as a function of their number, transforms on the device."""

from genlab.data.batches import Batches
from genlab.data.checks import check
from genlab.data.facts import MEASURED, missing, resolve, untrained
from genlab.data.load import BATCHING, compared, declared, load, sampled
from genlab.data.source import Field, Source
from genlab.data.transforms import prepare_batch

__all__ = [
    'BATCHING',
    'Batches',
    'Field',
    'MEASURED',
    'Source',
    'check',
    'compared',
    'declared',
    'load',
    'missing',
    'prepare_batch',
    'resolve',
    'sampled',
    'untrained',
]
