"""The id of the conditions under which figures were measured. Reports read it without JAX."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

VERSION = 2  # of the computation of figures; a change makes all older figures incomparable


def identify(conditions: Mapping[str, Any]) -> str:
    """Returns an id of eight hexadecimal digits: equal for equal conditions, and almost surely different for others."""
    return hashlib.sha256(json.dumps([VERSION, conditions], sort_keys=True).encode()).hexdigest()[:8]
