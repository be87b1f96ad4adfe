"""Libraries that a test loads into a process before its own."""
import subprocess
from pathlib import Path

from seed.wavecore.compiler import find_compiler


def build_library(source: str, folder: Path) -> Path:
    """Compiles a file beside this one."""
    path = Path(__file__).parent / source
    library = (folder / source).with_suffix(".so")
    subprocess.run([find_compiler(), "-shared", "-fPIC", "-O1", str(path), "-o", str(library),
                    "-ldl"], check=True)
    return library
