"""The compiler is found or asked for."""
import pytest

from seed.errors import CompilerError, CompilerLost
from seed.wavecore import compiler
from seed.wavecore.compiler import find_compiler, run_compiler


def executable(path, commands="echo clang version 99"):
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(0o755)


def test_the_compiler_is_cc_then_clang_then_the_newest_number(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
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


@pytest.mark.attack
def test_a_cc_that_is_not_clang_gives_way_to_the_clang_that_is_there(monkeypatch, tmp_path):
    """Report 31: conda sets CC=gcc."""
    executable(tmp_path / "gcc", "echo gcc 12")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "gcc")
    with pytest.raises(CompilerError, match="CC is 'gcc', which is not clang"):
        find_compiler()
    executable(tmp_path / "clang-15")
    assert find_compiler() == "clang-15"


@pytest.mark.attack
@pytest.mark.parametrize("commands, reason", [
    ("kill -9 $$", "Killed"), ("echo boom: error: no space >&2; exit 1", "no space"),
    ("exit 3", "no message"), ("sleep 1000 & sleep 1000", "still running")])
def test_a_compiler_that_fails_is_tried_twice_then_the_command_may_be_repeated(
        tmp_path, monkeypatch, commands, reason):
    """Attacks 52, 54: it hangs, is killed or fails."""
    monkeypatch.setattr(compiler, "MAX_COMPILE_S", 0.5)
    executable(tmp_path / "cc", f"echo run >> {tmp_path}/runs\n{commands}")
    with pytest.raises(CompilerLost, match=f"cannot compile a kernel: .*{reason}") as caught:
        run_compiler([str(tmp_path / "cc")], b"int x;")
    assert (tmp_path / "runs").read_text() == "run\nrun\n" and caught.value.exit_code == 75
    assert not compiler._running


@pytest.mark.attack
def test_a_compiler_that_fails_once_is_forgiven(tmp_path):
    """Attack 54: once."""
    executable(tmp_path / "cc", f"cd {tmp_path}\n[ -e once ] && exec cat\ntouch once\nkill $$")
    assert run_compiler([str(tmp_path / "cc")], b"int x;") == b"int x;"


def test_the_key_of_the_teacher_is_not_handed_to_the_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("SEED_TEACHER_KEY", "secret")
    executable(tmp_path / "cc", "env")
    seen = run_compiler([str(tmp_path / "cc")], b"")
    assert b"PATH=" in seen and b"SEED_TEACHER_KEY" not in seen


def test_a_compiler_that_is_gone_is_named(tmp_path):
    with pytest.raises(CompilerLost, match="gone cannot compile a kernel: No such file"):
        run_compiler([str(tmp_path / "gone")], b"")
