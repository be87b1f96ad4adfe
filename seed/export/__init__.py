"""Translates a checkpoint into a TFLite file, with numpy and flatbuffers alone, and verifies it.

`build` and `Options` are imported when they are used: verify.py needs neither flatbuffers nor
safetensors, so that an image with a TFLite runtime and numpy can check a file.
"""
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seed.export.brain_file import Options, build

__all__ = ["Options", "build"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seed.export import brain_file
    return getattr(brain_file, name)
