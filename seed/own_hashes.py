"""Imported before hashlib, lets it take Python's own hashes: those of OpenSSL cost 3 MB of memory.

NumPy imports hashlib to draw seeds. Here it sums up files of some MB, mostly with BLAKE2, which is
Python's own in any case.
"""
import sys
import typing

if "hashlib" not in sys.modules:
    sys.modules["_hashlib"] = typing.cast(typing.Any, None)   # its import fails, as if not built
    import hashlib   # noqa: F401
    import hmac   # noqa: F401
    del sys.modules["_hashlib"]
