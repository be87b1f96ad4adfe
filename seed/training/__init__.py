"""Training. Nothing is imported before it is used: most of it needs tinygrad."""
from importlib import import_module
from typing import Any

MODULES = {"train": "pipeline", "adapt_brain": "adapt", "adapt_to_body": "adapt_body",
           "undo_adaptation": "adapt"}
__all__ = [*MODULES]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
