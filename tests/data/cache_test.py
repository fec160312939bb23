"""Tests the cache of decoded sets."""

import threading

import numpy as np
import pytest

from genlab.data.cache import cached


def test_of_several_that_need_an_entry_one_computes_it(tmp_path, monkeypatch):
    monkeypatch.setenv('GENLAB_CACHE', str(tmp_path))
    inside, go_on, calls = threading.Event(), threading.Event(), []

    def slow():
        calls.append('slow')
        inside.set()
        go_on.wait(10)
        return {'x': np.arange(3)}

    def other():
        calls.append('other')
        return {'x': np.arange(9)}

    found = {}
    first = threading.Thread(target=lambda: found.update(first=cached('set', 'key', slow)['x']))
    second = threading.Thread(target=lambda: found.update(second=cached('set', 'key', other)['x']))
    first.start()
    inside.wait(10)
    second.start()
    second.join(0.2)
    assert second.is_alive()  # it waits
    go_on.set()
    first.join(10), second.join(10)
    assert calls == ['slow']
    np.testing.assert_array_equal(found['second'], np.arange(3))


def test_an_error_lets_the_next_compute_the_entry(tmp_path, monkeypatch):
    monkeypatch.setenv('GENLAB_CACHE', str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        cached('set', 'key', lambda: 1 / 0)
    assert cached('set', 'key', lambda: {'x': np.ones(2)})['x'].sum() == 2
