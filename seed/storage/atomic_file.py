"""A file that is written whole or not at all."""
import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Replaces a file; the new one is on the disk when this returns.

    Raises OSError, which names the file; then the old one is still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        error.filename, error.filename2 = str(path), None
        raise
