"""What a CPU can run is known by its instructions, not by what else Linux says of it."""
import os

import pytest

from seed.errors import ConfigError
from seed.wavecore import cpu
from seed.wavecore.cpu import NAMED, Target, find_target, instruction_sets, likely_name

ZEN2 = ("fpu vme lm constant_tsc abm adx aes avx avx2 bmi1 bmi2 cx16 f16c fma movbe pni "
        "popcnt sse sse2 sse4_1 sse4_2 sse4a ssse3 sha_ni")
PI5 = ("fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
       "asimddp")


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine another one."""
    def pretend(name: str, words: str) -> None:
        monkeypatch.setattr(cpu.platform, "machine", lambda: name)
        monkeypatch.setattr(cpu, "_cpuinfo_words", lambda: set(words.split()))
        cpu.cpu.cache_clear()
    yield pretend
    cpu.cpu.cache_clear()


@pytest.mark.parametrize("name, words", [("x86_64", ZEN2), ("aarch64", PI5)])
def test_words_that_a_newer_linux_adds_change_nothing(machine, name, words):
    machine(name, words)
    before = cpu.cpu(), find_target("native")
    machine(name, f"{words} bhi_ctrl its_no user_shstk debug_swap ssbs paca hypervisor")
    assert (cpu.cpu(), find_target("native")) == before


def test_another_instruction_set_is_another_cpu(machine):
    machine("x86_64", ZEN2)
    before = cpu.cpu()
    machine("x86_64", f"{ZEN2} avx512f")
    assert cpu.cpu() != before


def test_a_target_names_what_a_machine_lacks_for_it(machine):
    machine("aarch64", PI5)
    assert NAMED["cortex-a76"].lacks() == "" and likely_name() == "cortex-a76"
    assert NAMED["x86-64-v3"].lacks() == "it is for x86_64, and this machine is aarch64"
    machine("aarch64", PI5.replace("atomics", ""))   # a Raspberry Pi 4
    assert NAMED["cortex-a76"].lacks() == "this CPU has no atomics" and likely_name() == "native"
    machine("x86_64", ZEN2)
    assert NAMED["x86-64-v3"].lacks() == "" and likely_name() == "x86-64-v3"


def test_this_machine_can_run_what_is_built_for_it():
    assert find_target("native").lacks() == "" and instruction_sets()
    assert cpu.cpu().startswith(os.uname().machine)


def test_an_unknown_cpu_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'cortex-a75': use cortex-a76, .*nearest is cortex-a76"):
        find_target("cortex-a75")


def test_tinygrad_gets_the_names_that_it_knows():
    assert Target("cortex-a76", "aarch64", ()).arch == ("arm64", "cortex-a76")
    assert Target("x86-64-v3", "x86_64", ()).arch == ("x86_64", "x86-64-v3")
