"""TOML written from plain values; the standard library only reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def toml_text(values: Mapping[str, object]) -> str:
    """TOML of nested mappings whose leaves are text, numbers, booleans or lists of such; scalars before tables.

    >>> print(toml_text({"name": "knee", "fit": {"dice": 0.5, "shape": [1, 2]}}), end="")
    name = "knee"
    <BLANKLINE>
    [fit]
    dice = 0.5
    shape = [1, 2]
    """
    return "\n".join(_lines(values, "")) + "\n"


def _lines(values: Mapping[str, object], path: str) -> list[str]:
    lines = [f"{_key(key)} = {_value(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = f"{path}.{_key(key)}" if path else _key(key)
            lines += ["", f"[{inner}]", *_lines(value, inner)]
    return lines


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "")
    return key if bare.isascii() and bare.isalnum() else _quoted(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)  # repr gives nan and inf as TOML writes them
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise ValueError(f"{type(value).__name__} has no TOML form")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
