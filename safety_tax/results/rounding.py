"""Numbers as Git holds them: without the digits that another processor's rounding moves."""

from typing import Any

DIGITS = 6
"""Significant ones: far finer than any interval, and coarser than the last bits of a sum."""


def significant(value: Any) -> Any:
    """A JSON value whose floats have `DIGITS` significant digits; all else is as it was."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") + 0.0  # no minus before zero
    if isinstance(value, dict):
        return {key: significant(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [significant(of) for of in value]
    return value
