"""Data: sources with random access, batches as a function of their number, and what happens to them on the device."""

from genlab.data.batches import Batches
from genlab.data.checks import check
from genlab.data.load import declared, load
from genlab.data.source import Field, Source
from genlab.data.transforms import prepare_batch

__all__ = ['Batches', 'Field', 'Source', 'check', 'declared', 'load', 'prepare_batch']
