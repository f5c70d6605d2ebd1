"""JSON as the store writes it: compact, ASCII, and never NaN or Infinity, which are not JSON."""

import json
from typing import Any


def to_json(value: Any) -> str:
    """Serialise for a JSON column.

    Raises
    ------
    ValueError
        The value holds NaN or an infinity.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
