"""Experiments made of a few functions, to test the tools that use abilities."""

from genlab.abilities import Codec, Likelihood, Sampler
from genlab.experiment import Experiment

GROUPS = {'sampler': Sampler, 'codec': Codec, 'likelihood': Likelihood}


def stub(**abilities):
    """An Experiment without training that has these abilities, by the names of the fields of their groups."""
    grouped = {}
    for group, kind in GROUPS.items():
        given = {name: abilities.pop(name) for name in kind._fields if name in abilities}
        if given and {*kind._fields} - {*kind._field_defaults} <= {*given}:
            grouped[group] = kind(**given)
        elif given and group == 'codec':
            grouped[group] = kind(None, **given)
    return Experiment(None, None, **grouped, **abilities)
