"""JSON for people: two spaces, arrays of scalars on one line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def to_json(value: Any, indent: int = 0) -> str:
    r"""Format a JSON value with two-space indents and every array of scalars on one line.

    Args:
        value: what ``json`` can write.
        indent: current depth in spaces.

    Example:
        >>> to_json({"a": [1, 2]})
        '{\n  "a": [1, 2]\n}'
    """
    inner, outer = " " * (indent + 2), " " * indent
    if isinstance(value, Mapping) and value:
        lines = [f"{inner}{json.dumps(key)}: {to_json(item, indent + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{outer}}}"
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if any(isinstance(item, Mapping | list | tuple) for item in value) or len(json.dumps(value)) > 100 - indent:
            return "[\n" + ",\n".join(inner + to_json(item, indent + 2) for item in value) + f"\n{outer}]"
        return json.dumps(list(value), ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)
