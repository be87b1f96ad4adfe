"""Where the object file of a kernel comes from: from a kernel set, else from this user's cache,
else from the compiler, which is not looked for before a kernel is missing.

Without any kernel set a compiler has to be there from the start.
"""
import atexit
import functools
from collections.abc import Sequence
from pathlib import Path

from seed.errors import CompilerError, KernelMissing
from seed.wavecore import kernel_set
from seed.wavecore.compiler import find_compiler, identity, run_compiler
from seed.wavecore.cpu import cpu
from seed.wavecore.kernel_cache import KernelCache, Log, default_folder


class KernelLookup:
    """Raises CompilerError if there is no compiler and no kernel set; KernelSetError, OSError."""

    def __init__(self, log: Log):
        self._log = log
        self._sets, self._unusable = kernel_set.read_all()
        self._compiler = ""
        if not self._sets:
            self._require_compiler()
            self._open_cache()

    def get(self, table: str, c_text: str) -> bytes | None:
        """The object of a C text, unless it has to be compiled. `table`: of tinygrad's cache."""
        name = kernel_set.key(c_text)
        for kernels in self._sets:
            if name in kernels.objects:
                return kernels.objects[name]
        self._require_compiler()
        return self._open_cache().get(self._key(table, c_text))

    def put(self, table: str, c_text: str, code: bytes) -> None:
        self._open_cache().put(self._key(table, c_text), code)

    def compile(self, command: Sequence[str], **options: bytes) -> bytes:
        """The object file of tinygrad's command, with the compiler that was found."""
        self._require_compiler()
        return run_compiler([self._compiler, *command[1:]], options["input"])

    def _require_compiler(self) -> None:
        try:
            self._compiler = self._compiler or find_compiler()
        except CompilerError as error:
            if self._sets:
                raise KernelMissing(f"a kernel is in no set in {kernel_set.folder()}, and it "
                                    f"cannot be compiled here ({error})") from None
            if self._unusable:
                raise KernelMissing(f"{self._unusable}; and nothing can be compiled here "
                                    f"({error})") from None
            raise

    def _open_cache(self) -> KernelCache:
        cache = _kernel_cache(default_folder())
        cache.report(self._log)
        return cache

    def _key(self, table: str, c_text: str) -> str:
        return f"{cpu()} {identity(self._compiler)} {table} {c_text}"


@functools.cache
def _kernel_cache(folder: Path | None) -> KernelCache:
    kernels = KernelCache(folder)
    atexit.register(kernels.close)
    return kernels
