"""Tests of the vocabulary of sweeps and of trial ids, on random specs against an independent count."""

import random

import pytest

from genlab.errors import ConfigError
from genlab.sweep import hyper, trials


def test_vocabulary():
    rates, seeds = hyper.sweep('config.rate', [1, 2]), hyper.sweep('seed', range(2))
    assert hyper.product([rates, seeds]) == [
        {'rate': 1, 'seed': 0}, {'rate': 1, 'seed': 1}, {'rate': 2, 'seed': 0}, {'rate': 2, 'seed': 1}
    ]  # fmt: skip
    assert hyper.zipit([rates, seeds, hyper.fixed('width', 8, 2)]) == [
        {'rate': 1, 'seed': 0, 'width': 8}, {'rate': 2, 'seed': 1, 'width': 8}
    ]  # fmt: skip
    assert hyper.chainit([rates, seeds]) == [{'rate': 1}, {'rate': 2}, {'seed': 0}, {'seed': 1}]
    assert hyper.product([]) == [{}] and hyper.product([rates, []]) == [] and hyper.zipit([]) == []
    rates[0]['rate'] = 5  # parts are copied
    assert hyper.chainit([rates])[0] is not rates[0]


@pytest.mark.parametrize(
    'wrong, line',
    [
        (lambda: hyper.zipit([hyper.sweep('a', [1, 2]), hyper.sweep('b', [1])]), 'differ in length .2 of a, 1 of b'),
        (lambda: hyper.product([hyper.sweep('a', [1]), hyper.fixed('config.a', 2)]), 'config.a is set twice'),
        (lambda: hyper.zipit([hyper.sweep('a', [1]), hyper.sweep('a', [1])]), 'config.a is set twice'),
        (lambda: trials.number([{'a': 1, 'config.a': 1}]), 'config.a is set twice'),
        (lambda: trials.number(hyper.fixed('a', 1, 2)), 'a=1 occurs twice'),
        (lambda: trials.number([]), 'no trials'),
        (lambda: hyper.sweep(3, [1]), 'by a string'),
    ],
)
def test_wrong_specs_are_refused(wrong, line):
    with pytest.raises(ConfigError, match=line):
        wrong()


def spec(chance, depth):
    """Returns a random spec: ('sweep', key, values) or (kind, parts)."""
    kind = chance.choice(['sweep', 'sweep', 'fixed', 'product', 'zipit', 'chainit'] if depth else ['sweep', 'fixed'])
    if kind == 'sweep':
        return kind, chance.choice('abcd'), [chance.randrange(4) for _ in range(chance.randrange(4))]
    if kind == 'fixed':
        return kind, chance.choice('abcd'), chance.randrange(4), chance.randrange(1, 3)
    return kind, [spec(chance, depth - 1) for _ in range(chance.randrange(4))]


def built(spec):
    """Builds a spec by the vocabulary."""
    kind, *rest = spec
    if kind in ('sweep', 'fixed'):
        return getattr(hyper, kind)(*rest)
    return getattr(hyper, kind)([built(part) for part in rest[0]])


def expected(spec):
    """Returns the trials as tuples of (key, value) pairs, with repeated keys kept; None where a zip cannot be made."""
    kind, *rest = spec
    if kind == 'sweep':
        return [((rest[0], value),) for value in rest[1]]
    if kind == 'fixed':
        return [((rest[0], rest[1]),)] * rest[2]
    parts = [expected(part) for part in rest[0]]
    if None in parts:
        return None
    if kind == 'chainit':
        return [trial for part in parts for trial in part]
    if kind == 'zipit':
        lengths = [len(part) for part in parts]
        if lengths != lengths[:1] * len(lengths):
            return None
        return [sum((part[at] for part in parts), ()) for at in range(lengths[0] if lengths else 0)]
    found = [()]
    for part in parts:
        found = [left + right for left in found for right in part]
    return found


def parts_of(spec):
    """Yields a spec and all parts below it."""
    yield spec
    if spec[0] not in ('sweep', 'fixed'):
        for part in spec[1]:
            yield from parts_of(part)


def valid(spec):
    """Returns whether a spec can be built: no zip of other lengths, no key twice in a trial of any part."""
    found = [expected(part) for part in parts_of(spec)]
    return all(
        part is not None and all(len({key for key, _ in trial}) == len(trial) for trial in part) for part in found
    )


def test_ten_thousand_random_specs_lose_no_trial():
    chance, good = random.Random(0), 0
    for _ in range(10_000):
        made = spec(chance, 2)
        wanted = expected(made) if valid(made) else None
        wanted = wanted if wanted and len({tuple(sorted(trial)) for trial in wanted}) == len(wanted) else None
        if wanted is None:
            with pytest.raises(ConfigError) as refused:
                trials.number(built(made))
            assert '\n' not in str(refused.value) and str(refused.value)
        else:
            numbered = trials.number(built(made))
            assert [*numbered.values()] == [dict(sorted(trial)) for trial in wanted]
            good += 1
    assert 2000 < good < 8000  # both kinds occur


def test_ids_depend_on_overrides_alone():
    name = trials.identify({'optimizer.model.learning_rate': 1e-3, 'seed': 3})
    assert name == trials.identify({'seed': 3, 'optimizer.model.learning_rate': 0.001})
    assert name.startswith('learning_rate-0_001-seed-3-')
    assert trials.identify({}).startswith('base-')
    values = [1, 1.5, -1.5, 15, '1', 'a/b', 'a b', 'A b', (1, 2), (12,), True, 'True']
    assert len({trials.identify({'key': value}).lower() for value in values}) == len(values)
    assert '/' not in trials.identify({'key': '../x'})
