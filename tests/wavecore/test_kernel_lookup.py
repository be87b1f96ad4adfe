"""A kernel comes from a set, else from the cache, else from a compiler that is then looked for."""
import pytest

from seed.errors import CompilerError, KernelMissing
from seed.wavecore import kernel_set
from seed.wavecore.cpu import NAMED, find_target
from seed.wavecore.kernel_lookup import KernelLookup
from seed.wavecore.kernel_set import KernelSet, key, write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(kernel_set.VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("CC", "/nonexistent/clang")


def put_set(folder, target=None) -> None:
    write(folder / "a.kernels", KernelSet(target or find_target("native"), "", "",
                                          {key("int x;"): b"object"}))


def test_what_a_set_has_needs_neither_a_compiler_nor_a_cache(folder, no_compiler):
    put_set(folder)
    lookup = KernelLookup(print)
    assert lookup.get("any table", "int x;") == b"object" and not (folder / "cache").exists()
    with pytest.raises(KernelMissing, match="a kernel is in no set in .*CC is '/nonexistent") as e:
        lookup.get("any table", "int y;")
    assert e.value.exit_code == 2


def test_without_a_set_a_compiler_is_asked_for_at_once(folder, no_compiler):
    with pytest.raises(CompilerError, match="^CC is"):
        KernelLookup(print)


def test_a_set_for_another_cpu_is_named_where_nothing_can_be_compiled(folder, no_compiler):
    put_set(folder, next(target for target in NAMED.values() if target.lacks()))
    with pytest.raises(KernelMissing, match="a.kernels: it is for .*nothing can be compiled here"):
        KernelLookup(print)


def test_what_a_set_lacks_is_compiled_and_cached_where_a_compiler_is(folder):
    put_set(folder)
    lookup = KernelLookup(print)
    assert lookup.get("table", "int y;") is None
    code = lookup.compile(["clang", "-c", "-x", "c", "-", "-o", "-"], input=b"int y;")
    lookup.put("table", "int y;", code)
    assert code[:4] == b"\x7fELF" and KernelLookup(print).get("table", "int y;") == code
