"""Models: one module per family. A small NamedTuple holds networks and settings; top-level functions take it first.

A function of a model can be tested alone. `experiments/` binds them by `functools.partial` and hands them to `compose`.
"""
