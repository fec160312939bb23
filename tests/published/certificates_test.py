"""Tests that docs/parity.md and the table of docs/guide/published.md say what the certificates show, and no more."""

import datetime
import re

import pytest

from genlab import published
from genlab.published.recorded import TOLERANCE
from support.runs import ROOT, module_of

certify = module_of(ROOT / 'benchmarks/parity/certify.py')
CERTIFICATES = certify.load()
RUNS = [(record, size) for record, runs in CERTIFICATES.items() for size in runs]


def test_the_pages_are_made_of_the_certificates():
    guide = certify.GUIDE.read_text()
    assert certify.PAGE.read_text() == certify.page(CERTIFICATES)
    assert guide == certify.with_ladder(guide, CERTIFICATES)
    assert certify.ladder(CERTIFICATES) in guide


@pytest.mark.parametrize('record, size', RUNS)
def test_a_certificate_says_what_was_compared_with_what(record, size):
    run = CERTIFICATES[record][size]
    assert record in published.RECORDS and size in certify.SIZES
    assert datetime.date.fromisoformat(run['date']) and {*run['versions']} == {'python', 'torch', 'jax'}
    assert re.fullmatch('[0-9a-f]{7}', run['genlab']) and run['peer'] and run['size']
    assert run['parameters'] > 0 and run['compared']
    for one in run['compared']:
        figures = {name: figure for name, figure in one.items() if name not in ('what', 'left_out')}
        if 'gradient64' in figures:
            del figures['gradient']
        assert figures and {*figures} <= {*certify.FIGURES} and 0 <= max(figures.values()) < TOLERANCE


def test_no_row_claims_what_has_no_certificate():
    rows = dict(zip(published.RECORDS, certify.ladder({}).splitlines()[2:], strict=True))
    assert not any('yes' in row for row in rows.values()) and all(row.count('not run |') >= 2 for row in rows.values())
    run = {'size': 'width 4', 'compared': [{'what': 'net', 'forward': 2e-7, 'gradient': 3e-3, 'gradient64': 4e-6}]}
    run['compared'] += [{'what': 'net, Adam', 'update': 5e-6, 'left_out': 0.5}, {'what': 'samples', 'trajectory': 7e-6}]
    row = certify.ladder({'edm': {'tiny': run}}).splitlines()[2 + published.RECORDS.index('edm')]
    assert row == '| `edm` | translated | yes, 7e-6 (width 4) | not run | no file at hand | net, Adam: 5e-6 |'


def test_a_record_without_a_step_says_why():
    stepped = {record for record, runs in CERTIFICATES.items() for run in runs.values() if 'update' in str(run)}
    assert {*published.RECORDS} - stepped == {*certify.NO_STEP}


def test_one_size_is_renewed_without_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(certify, 'FOLDER', tmp_path / 'certificates')
    for size, number in (('tiny', 1), ('full', 2), ('tiny', 3)):
        certify.store('edm', size, {'parameters': number})
    assert certify.load() == {'edm': {'tiny': {'parameters': 3}, 'full': {'parameters': 2}}}
