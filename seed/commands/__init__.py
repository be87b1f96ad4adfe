"""The commands, each of which imports what it needs when it runs: --help is instant.

An older Python gets no further than here, where nothing of a newer one has been used.
"""
import sys

from seed.errors import BAD_INPUT

OLDEST_PYTHON = (3, 11)   # as setup.cfg tells pip

if sys.version_info < OLDEST_PYTHON:
    print(f"seed: this is Python {sys.version_info[0]}.{sys.version_info[1]}, and seed needs 3.11 "
          f"or newer: start it as python3.11 -m seed, or install it there", file=sys.stderr)
    sys.exit(BAD_INPUT)
