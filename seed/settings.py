"""Keys of a profile: fields of a frozen dataclass with type, range and unit, checked when it is
built from a table. Every error is a ConfigError of one line that names the key, its value, what is
valid and the nearest valid choice. Standard library only.
"""
import difflib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any

from seed.errors import ConfigError

NOUNS = {int: "an integer", float: "a float", str: "a string", bool: "true or false"}


def setting(default: Any, low: float, high: float, unit: str = "", multiple_of: int = 1) -> Any:
    """A key that is a number from `low` to `high`, or a table of such numbers."""
    limits = {"low": low, "high": high, "unit": unit, "multiple_of": multiple_of}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=limits)
    return field(default=default, metadata=limits)


def choice(*choices: str) -> Any:
    """A key that is one of some words; the first is the default."""
    return field(default=choices[0], metadata={"choices": choices})


def build(cls: Any, table: dict, prefix: str = "") -> Any:
    """A dataclass from a table of its keys. Raises ConfigError."""
    keys, kinds = {key.name: key for key in fields(cls)}, typing.get_type_hints(cls)
    for name in table:
        if name not in keys:
            raise ConfigError(f"{prefix}{name} is unknown{nearest(name, keys)}")
    return cls(**{name: _checked(f"{prefix}{name}", value, kinds[name], keys[name].metadata)
                  for name, value in table.items()})


def _checked(name: str, value: Any, kind: Any, limits: Mapping[str, Any]) -> Any:
    """`value` as the key's type and within its limits. An int serves as a float."""
    item_kinds = typing.get_args(kind)   # of a dict
    if item_kinds or is_dataclass(kind):
        require(isinstance(value, dict), f"{name} is {value!r}: use a table")
        return {key: _checked(f"{name}.{key}", item, item_kinds[1], limits)
                for key, item in value.items()} if item_kinds else build(kind, value, f"{name}.")
    if kind is float and type(value) is int:
        value = float(value)
    require(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)),
            f"{name} is {value!r}: use {NOUNS[kind]}")
    if "choices" in limits and value not in limits["choices"]:
        raise ConfigError(f"{name} is {value!r}: use {' or '.join(map(repr, limits['choices']))}"
                          f"{nearest(value, limits['choices'])}")
    if "low" in limits:
        low, high, unit = limits["low"], limits["high"], limits["unit"]
        closest = min(max(low, value), high)   # low if the value is nan
        valid = f"{low} to {high} {unit}".rstrip()
        require(low <= value <= high, f"{name} is {value}: use {valid}; nearest is {closest}")
        check_multiple(name, value, limits["multiple_of"])
    return value


def check_multiple(name: str, value: float, unit: int) -> None:
    """Raises ConfigError unless `value` is a multiple of `unit`; 1 allows every number."""
    below = value // unit * unit
    closest = below if below and 2 * (value - below) < unit else below + unit
    require(unit == 1 or value == below,
            f"{name} is {value}: use a multiple of {unit}; nearest is {closest}")


def require(holds: object, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def nearest(key: str, valid: Iterable[str]) -> str:
    """The end of a message that names the valid key most like `key`."""
    close = difflib.get_close_matches(key, list(valid), n=1, cutoff=0.0)
    return f"; nearest is {close[0]}" if close else ""
