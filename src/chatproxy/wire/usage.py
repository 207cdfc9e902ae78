"""How many tokens did it take? The counters of a reply, flat."""

from typing import Any


def counters(usage: Any) -> dict[str, int]:
    """Return the whole numbers in *usage* by name, those one level down as ``outer.inner``; {} if it is no object."""
    if not isinstance(usage, dict):
        return {}
    flat: dict[str, int] = {}
    for name, value in usage.items():
        if _is_count(value):
            flat[name] = value
        elif isinstance(value, dict):
            flat.update({f"{name}.{inner}": number for inner, number in value.items() if _is_count(number)})
    return flat


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63
