"""Brains of another size. Nothing is imported before it is used: most of it needs tinygrad."""
from importlib import import_module
from typing import Any

MODULES = {"shrink_brain": "shrink", "grow_brain": "grow", "undo_growth": "growth_undo",
           "train_growing": "growing", "find_size": "size_search", "SearchOptions": "size_search"}
__all__ = [*MODULES]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
