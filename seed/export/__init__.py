"""Translates a checkpoint into a TFLite file, with numpy and flatbuffers alone."""
