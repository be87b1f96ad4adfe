"""The keys of a profile's tables: each a field of a frozen dataclass with its default, range and
unit, and their checks. Standard library only."""
import difflib
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import field, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from seed.errors import ConfigError
from seed.terminal_text import is_text

MIN_LIKENESS = 0.6        # of a word to the one that is proposed where all could be listed
MAX_BITS = 63             # of an integer beside its sign, as in TOML
NOUNS = {int: "an integer", float: "a float", str: "a string", bool: "true or false"}


def setting(default: Any, low: float, high: float, unit: str = "", multiple_of: int = 1) -> Any:
    """A key that is a number from `low` to `high`, or a table of such numbers."""
    return field(default_factory=lambda: copy(default), metadata={
        "low": low, "high": high, "unit": unit, "multiple_of": multiple_of})


def build(cls: Any, table: dict, prefix: str = "") -> Any:
    """A dataclass of a table. Raises ConfigError for unknown keys, types and ranges."""
    keys, kinds = {key.name: key for key in fields(cls)}, get_type_hints(cls)
    for name in table:
        if name not in keys:
            raise ConfigError(f"{prefix}{name} is unknown{nearest(name, keys)}")
    return cls(**{name: _checked(f"{prefix}{name}", value, kinds[name], keys[name].metadata)
                  for name, value in table.items()})


def _checked(name: str, value: Any, kind: Any, limits: Mapping[str, Any]) -> Any:
    """`value` as the key's type and within its limits. An int serves as a float."""
    if type(value) is int and value.bit_length() > MAX_BITS:
        raise ConfigError(f"{name} is out of range: use {MAX_BITS + 1} bits at most")
    if is_dataclass(kind) or get_origin(kind) is dict:
        require(isinstance(value, dict), name, value, "a table")
        return build(kind, value, f"{name}.") if is_dataclass(kind) else {
            _text(name, key): _checked(f"{name}.{key}", item, get_args(kind)[1], limits)
            for key, item in value.items()}
    words, kind = get_args(kind), str if get_origin(kind) is Literal else kind
    if kind is float and type(value) is int:
        value = float(value)
    require(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)),
            name, value, NOUNS[kind])
    if kind is str:
        _text(name, value)
    if words:
        require(value in words, name, value,
                f"{' or '.join(map(repr, words))}{nearest(value, words)}")
    if limits:
        valid = "{low} to {high} {unit}".format(**limits).rstrip()
        closest = min(max(limits["low"], value), limits["high"])   # low if the value is nan
        require(value == closest, name, value, f"{valid}; nearest is {closest}")
        check_multiple(name, value, limits["multiple_of"])
    return value


def _text(name: str, text: str) -> str:
    """The text; only the name of a file may have bytes that are no UTF-8."""
    require(is_text(text, name == "name" or name.startswith("identity")), name, text, "text")
    return text


def check_multiple(name: str, value: float, unit: int) -> None:
    """Raises ConfigError unless `value` is a multiple of `unit`; 1 allows every number."""
    below = value // unit * unit
    closest = below if below and 2 * (value - below) < unit else below + unit
    require(unit == 1 or value == below, name, value,
            f"a multiple of {unit}; nearest is {closest}")


def require(holds: object, name: str, value: object, use: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {repr(value):.200}: use {use}")


def nearest(word: str, valid: Iterable[object], min_likeness: float = 0.0) -> str:
    """The end of a message that names the valid word most like this one; empty if none is like it
    enough, from 0 to 1."""
    close = difflib.get_close_matches(word, map(str, valid), n=1, cutoff=min_likeness)
    return f"; nearest is {close[0]}" if close else ""
