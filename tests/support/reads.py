"""Records which keys of a config are read, to find keys that nothing reads."""

import contextlib

from ml_collections import ConfigDict

from genlab.run import workdir
from genlab.training import program

# What looks at every value without using it: the checks, and the copy that a run keeps.
LOOKING = ((program, '_check_values'), (workdir, 'plain'))


@contextlib.contextmanager
def recorded():
    """Yields a set that collects the dotted keys that are read inside."""
    reads, looking = set(), []
    getitem, items = ConfigDict.__getitem__, ConfigDict.items

    def named(self, key):
        """Returns a value; a part gets its name, and keeps the first."""
        value = getitem(self, key)
        if isinstance(value, ConfigDict) and '_path' not in value.__dict__:
            object.__setattr__(value, '_path', f'{self.__dict__.get("_path", "")}{key}.')
        return value

    def read(self, key):
        if not looking:
            reads.add(f'{self.__dict__.get("_path", "")}{key}')
        return named(self, key)

    def listed(self, **options):
        """Lists a typed part without a read: only choices, terms and averages are used as a whole."""
        return [(key, named(self, key)) for key in self] if self.is_type_safe else items(self, **options)

    def aside(function):
        def call(*arguments):
            looking.append(function)
            try:
                return function(*arguments)
            finally:
                looking.pop()

        return call

    with contextlib.ExitStack() as stack:
        for owner, name, new in (
            (ConfigDict, '__getitem__', read),
            (ConfigDict, 'items', listed),
            *((owner, name, aside(getattr(owner, name))) for owner, name in LOOKING),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, new)
        yield reads


def leaves(config, prefix=''):
    """Returns the dotted keys of the values of a config, without those of its parts."""
    found = set()
    for key, value in config._fields.items():
        found |= leaves(value, f'{prefix}{key}.') if isinstance(value, ConfigDict) else {f'{prefix}{key}'}
    return found
