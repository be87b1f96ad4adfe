"""The port model's estimates: blocks are counted as they run, and llvm-mca's report is read right.
"""
import json
import shutil
from pathlib import Path

import pytest

from seed.bench import arm64_blocks, port_model
from seed.bench.arm64_blocks import Block
from seed.bench.port_model import Cost
from seed.errors import ConfigError
from seed.wavecore import kernel_lookup, tinygrad_seam
from seed.wavecore.cpu import find_target

REPORT = Path(__file__).with_name("llvm_mca_19.json")   # of LLVM 19.1.7, three regions
LOOP = """
void loop(volatile float *x, float *y) {
    _Pragma("clang loop unroll(disable)") for (int i = 0; i < 1000; i++) x[i % 4] += 1.f;
    if (*y) *y = 2.f;
}
"""


def test_the_report_of_llvm_mca_is_read():
    assert port_model.costs(json.loads(REPORT.read_text())) == [
        Cost(4.13, "vector", 8), Cost(2.03, "latency", 0), Cost(3.0, "decode", 0)]


def test_regions_leave_out_calls():
    blocks = [Block("f", ("add x0, x0, #1", "bl memset")), Block("f", ("blr x3",))]
    assert port_model.regions(blocks).splitlines() == [
        "# LLVM-MCA-BEGIN 0", "add x0, x0, #1", "# LLVM-MCA-END 0",
        "# LLVM-MCA-BEGIN 1", "nop", "# LLVM-MCA-END 1"]


def test_a_kernel_is_the_sum_of_its_blocks():
    blocks = [(Block("loop", ()), 100), (Block("end", ()), 2)]
    kernel = port_model.summed("mlp_forward_64", 6, blocks,
                               [Cost(12.0, "vector", 24), Cost(24.0, "load", 0)])
    assert (kernel.cycles, kernel.multiply_adds) == (1248.0, 2400)
    assert kernel.step_ms == pytest.approx(1e3 * 6 * 1248 / 2.4e9)
    assert [block.function for block in kernel.blocks] == ["loop"]
    assert "| mlp forward | 6 | 0.0 | 0.96 | `loop` | 0.96 | 12.0 | 24 | vector |" \
        in port_model.table([kernel])


def test_blocks_begin_at_labels_and_behind_branches():
    text, blocks = arm64_blocks.with_counters(
        "\t.text\nf:\n\tmov x0, #1\n.L1:\n\tsubs x0, x0, #1 // why\n\tb.ne .L1\n\tret\n"
        "\t.section .rodata\nTABLE:\n\t.word 1\n")
    assert blocks == [Block("f", ("mov x0, #1",)), Block("f", ("subs x0, x0, #1", "b.ne .L1")),
                      Block("f", ("ret",))]
    assert text.count("counters+16") == 3 and "counters+24" not in text
    assert ".zero 24" in text


@pytest.mark.skipif(not all(map(shutil.which, port_model.PACKAGES)), reason="needs qemu-user")
def test_a_loop_is_counted_in_emulation():
    counts = arm64_blocks.counted("loop", LOOP, (16, 4))
    assert max(count for _, count in counts) == 1000
    assert not any("#2.0" in word for block, _ in counts for word in block.instructions)


def test_blocks_are_of_the_code_that_a_kernel_set_has(monkeypatch):
    commands = []
    monkeypatch.setattr(kernel_lookup, "run_compiler",
                        lambda command, text: commands.append(command) or b"")
    tinygrad_seam.install()
    tinygrad_seam.compile_for(find_target(arm64_blocks.CPU), "")
    assert set(arm64_blocks.FLAGS) == {*commands[0][1:]} - {"-c", "-", "-o"}


def test_a_tool_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["port_model"])
    monkeypatch.setattr(port_model, "PACKAGES", {})
    monkeypatch.setenv("PATH", "/nonexistent")
    assert port_model.main() == 2
    assert capsys.readouterr().err == (
        "port_model: llvm-mca-19 is not on PATH: apt install llvm-19, or name it with --llvm-mca\n")
    monkeypatch.setattr(port_model, "PACKAGES", {"ld-none": "binutils-none"})
    assert port_model.main() == 2
    assert "ld-none is not on PATH: apt install binutils-none" in capsys.readouterr().err


def test_another_llvm_is_refused(tmp_path, monkeypatch):
    program = tmp_path / "llvm-mca"
    program.write_text("#!/bin/sh\necho LLVM version 14.0.6\n")
    program.chmod(0o755)
    monkeypatch.setattr(port_model, "PACKAGES", {})
    with pytest.raises(ConfigError, match="is not of LLVM 19"):
        port_model.check(str(program))
