"""Models: one module per family. A small NamedTuple holds networks and settings; top-level functions take it first.

Each function can be tested alone. `experiments/` binds the model by `functools.partial` and passes the functions to
`compose`. These arguments and results are common to all families:

Args:
    variables: network -> {collection: values}; see `genlab.abilities.Variables`.
    batch: prepared batch with leaves [B, ...]. `x` holds images in [-1, 1] or points [B, D].
    keys: one typed key per example [B], or per sample [N].
    step: number of the training step, a scalar.
    condition: what samples depend on other than noise, with leaves [N, ...]; see `genlab.conditioning`.

Returns:
    `terms`: the terms by name, and the new collections by network. A term is an array [B], a scalar, or a function
        that returns one.
    `measure`: measurements by name, [B] each.
    `sample`, `decode`: images in [-1, 1] or points, [N, ...].
    `reconstruct`: 'input' and 'output', [B, ...] each.
"""
