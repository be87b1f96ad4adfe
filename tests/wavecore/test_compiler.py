"""The compiler is found or asked for, and cached code stays on its kind of CPU."""
import os

import pytest

from seed.wavecore import kernel_source
from seed.wavecore.compiler import cpu, find_compiler
from seed.errors import CompilerError


def executable(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def test_the_compiler_is_cc_then_clang_then_the_newest_number(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC")
    with pytest.raises(CompilerError, match="sudo apt install clang"):
        find_compiler()
    for name in ("clang-9", "clang-19", "clang-tidy", "clang-19.old"):
        executable(tmp_path / name)
    assert find_compiler() == "clang-19"
    executable(tmp_path / "clang")
    assert find_compiler() == "clang"
    executable(tmp_path / "mycc")
    monkeypatch.setenv("CC", "mycc")
    assert find_compiler() == "mycc"
    monkeypatch.setenv("CC", "nocc")
    with pytest.raises(CompilerError, match="CC is 'nocc'"):
        find_compiler()


def test_the_text_of_a_kernel_names_the_cpu(monkeypatch):
    def text() -> str:
        return kernel_source.kernel_source("mlp.c", "FORWARD", {}, "y", "x")[1]
    here = text()
    assert cpu() in here and cpu().startswith(os.uname().machine)
    monkeypatch.setattr(kernel_source, "cpu", lambda: "another")
    assert text() != here
