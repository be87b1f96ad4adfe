"""Translates a checkpoint into a TFLite file, with numpy and flatbuffers alone, and verifies it."""
from seed.export.build import build
from seed.export.graph import Options

__all__ = ["Options", "build"]
