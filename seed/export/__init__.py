"""Translates a checkpoint into a TFLite file, with numpy and flatbuffers alone, or into a C source,
and verifies it.

Nothing is imported before it is used: an image with a TFLite runtime and numpy can run verify.py.
"""
from importlib import import_module
from typing import Any

MODULES = {"build": "brain_file", "build_c": "c_file", "Options": "graph"}
__all__ = [*MODULES]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
