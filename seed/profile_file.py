"""Profiles as TOML files, and `--set table.key=value`. Standard library only."""
import json
import os
import tomllib
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from seed.config import Profile, from_dict
from seed.errors import ConfigError
from seed.regular_file import read_bytes
from seed.settings import nearest, require
from seed.task_names import absolute, split_weight, with_absolute_tasks, without_moved

BASE = "base.toml"   # the tasks and the identity that every profile inherits


def profiles_dir() -> Traversable:
    """The profiles in the installed package, or beside the package in a checkout."""
    package = resources.files("seed")
    installed = package / "profiles"
    return installed if installed.is_dir() else package / ".." / "profiles"


def shipped_profiles() -> list[str]:
    """Their names."""
    names = [file.name for file in profiles_dir().iterdir()]
    return sorted(name.removesuffix(".toml") for name in names
                  if name.endswith(".toml") and name != BASE)


def load_profile(name: str, overrides: Sequence[str] = (), tasks: Sequence[str] = ()) -> Profile:
    """A shipped profile by name, or any TOML file by path, with `a.b=value` overrides applied.

    It inherits tasks and identity of BASE unless it has its own. `tasks` are added: names, or
    names of files, with `=weight` if not 1. Raises ConfigError.
    """
    is_path = name.endswith(".toml") or os.sep in name
    path = Path(name) if is_path else profiles_dir() / f"{name}.toml"
    try:
        contents = read_bytes(path) if isinstance(path, Path) else path.read_bytes()
        data = tomllib.loads(contents.decode("utf-8"))
    except FileNotFoundError:
        shipped = shipped_profiles()
        raise ConfigError(f"profile {name!r} not found: use {', '.join(shipped)} or a path to a "
                          f".toml file{nearest(name, shipped)}") from None
    except OSError as error:
        raise ConfigError(f"profile {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"profile {path}: {' '.join(str(error).split())}") from None
    base = tomllib.loads((profiles_dir() / BASE).read_text(encoding="utf-8"))
    curriculum = data.get("curriculum", {})
    if isinstance(curriculum, dict):
        data["curriculum"] = {**base["curriculum"], **curriculum}
    data = {"name": Path(path.name).stem, "identity": base["identity"], **data}
    data = with_absolute_tasks(data, Path(name).parent if is_path else None)
    return overridden(data, overrides, tasks)


def overridden(data: dict, overrides: Sequence[str], tasks: Sequence[str] = ()) -> Profile:
    """The profile of a table of tables, with `a.b=value` overrides and more tasks."""
    return from_dict(applied(data, overrides, tasks))


def applied(data: dict, overrides: Sequence[str], tasks: Sequence[str] = ()) -> dict:
    """A table of tables, changed by `a.b=value` overrides and more tasks."""
    for override in overrides:
        key, sep, text = override.partition("=")
        if not sep or not all(key.split(".")):
            raise ConfigError(f"--set {override!r}: use table.key=value, such as train.lr=0.002")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            value = text   # a bare string
        _put(data, key.split("."), value)
    for task in tasks:
        name, text = split_weight(task)
        try:
            weight = float(text) if text or name != task else 1.0
        except ValueError:
            raise ConfigError(f"--task {task!r}: use a number after =, such as {name}=2") from None
        _put(data, ["curriculum", "tasks", name := absolute(name)], weight)
        data["curriculum"]["tasks"] = without_moved(data["curriculum"]["tasks"], name, not text)
    return with_absolute_tasks(data)


def _put(data: dict, keys: Sequence[str], value: object) -> None:
    *tables, key = keys
    for i, name in enumerate(tables, 1):
        data = data.setdefault(name, {})
        require(isinstance(data, dict), ".".join(tables[:i]), data, "a table")
    data[key] = value


def to_toml(profile: Profile) -> str:
    """A profile file that `load_profile` reads as the same profile."""
    tables = profile.to_dict()
    lines = _toml_lines({"name": tables.pop("name")})
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_toml_lines(table)]
    return "\n".join(lines) + "\n"


def _toml_lines(table: dict) -> list[str]:
    return [f"{key if key.isidentifier() and key.isascii() else _toml(key)} = {_toml(value)}"
            for key, value in table.items()]


def _toml(value: object) -> str:
    """TOML writes numbers, booleans and, DEL aside, the escapes of a string as JSON does."""
    if isinstance(value, dict):
        return f"{{{', '.join(_toml_lines(value))}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
