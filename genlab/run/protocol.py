"""The id of the conditions under which figures were measured. Reports read it without JAX."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

VERSION = 3  # version of the computation of figures; a change makes all older figures incomparable

NAMES = ('data', 'reference')  # conditions that name data, which `fingerprint` identifies


def identify(conditions: Mapping[str, Any]) -> str:
    """Returns an id of eight hexadecimal digits: equal for equal conditions, and almost surely different for others.

    The names of data sets do not count, because a folder may be renamed. Their
    fingerprint does (`genlab.data.fingerprint`).
    """
    counted = {name: value for name, value in conditions.items() if name not in NAMES}
    return hashlib.sha256(json.dumps([VERSION, counted], sort_keys=True).encode()).hexdigest()[:8]
