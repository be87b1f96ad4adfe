"""How often each basic block of an arm64 kernel runs, counted in an emulated Cortex-A76.

A counter is put before the first instruction of each block of the compiler's assembly; the kernel
then runs once on zeros, linked to nothing but its driver. Needs clang, aarch64-linux-gnu-ld and
qemu-aarch64-static.
"""
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seed.errors import BenchError
from seed.wavecore.compiler import find_compiler, run_compiler

CPU = "cortex-a76"
LINKER, EMULATOR = "aarch64-linux-gnu-ld", "qemu-aarch64-static"
FLAGS = ("-x", "c", "-O2", "-fPIC", "-ffreestanding", "-fno-math-errno", "-nostdlib", "-fno-ident",
         "--target=arm64-none-unknown-elf", "-ffixed-x18", f"-mcpu={CPU}")   # those of a kernel set
BRANCH = re.compile(r"(b|br|ret|b\.\w+|cbn?z|tbn?z)\b")
COUNT = """\
\tstp x16, x17, [sp, #-16]!
\tadrp x16, counters+{at}
\tldr x17, [x16, :lo12:counters+{at}]
\tadd x17, x17, #1
\tstr x17, [x16, :lo12:counters+{at}]
\tldp x16, x17, [sp], #16"""   # neither flags nor registers change
DRIVER = """\
typedef unsigned long size_t;
extern unsigned long counters[];
void *memset(void *to, int byte, size_t n) {{
    for (volatile char *p = to; n--; p++) *p = byte;
    return to;
}}
void *memcpy(void *to, const void *from, size_t n) {{
    volatile char *p = to;
    for (const char *q = from; n--; p++, q++) *p = *q;
    return to;
}}
void run_in_team(void) {{ __builtin_trap(); }}
int sched_yield(void) {{ __builtin_trap(); }}
int usleep(void) {{ __builtin_trap(); }}
static long call(long number, long a, long b, long c) {{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}}
{buffers}
void {name}({types});
void _start(void) {{
    {name}({arguments});
    for (long at = 0; at < {size};) at += call(64, 1, (long)counters + at, {size} - at);
    call(93, 0, 0, 0);
}}
"""


class Block(NamedTuple):
    """Instructions without a label or branch between them."""
    function: str
    instructions: tuple[str, ...]


def assembly(c_text: str) -> str:
    return run_compiler([find_compiler(), *FLAGS, "-S", "-", "-o", "-"], c_text.encode()).decode()


def with_counters(text: str) -> tuple[str, list[Block]]:
    """An assembly whose blocks count in the array `counters`, and the blocks in that order."""
    lines: list[str] = []
    blocks: list[tuple[str, list[str]]] = []
    function, is_code, is_new = "", True, True
    for line in text.splitlines():
        word = line.partition("//")[0].strip()
        if word == ".text" or word.startswith(".section"):
            is_code = word == ".text" or ".text" in word
        elif word.endswith(":"):
            is_new = True
            function = function if word.startswith(".L") else word[:-1]
        elif word and not word.startswith(".") and is_code:
            if is_new:
                lines.append(COUNT.format(at=8 * len(blocks)))
                blocks.append((function, []))
            blocks[-1][1].append(word)
            is_new = bool(BRANCH.match(word))
        lines.append(line)
    lines += ["\t.bss", "\t.balign 64", "\t.globl counters", "counters:",
              f"\t.zero {8 * len(blocks)}", ""]
    return "\n".join(lines), [Block(name, tuple(words)) for name, words in blocks]


def driver(name: str, buffer_bytes: Sequence[int], n_blocks: int) -> str:
    """A program that calls a kernel with buffers of zeros and writes the counters."""
    numbers = range(len(buffer_bytes))
    return DRIVER.format(
        name=name, size=8 * n_blocks, types=", ".join("void *" for _ in numbers),
        arguments=", ".join(f"b{i}" for i in numbers), buffers="\n".join(
            f"static char b{i}[{size}] __attribute__((aligned(64)));"
            for i, size in enumerate(buffer_bytes)))


def counted(name: str, c_text: str, buffer_bytes: Sequence[int]) -> list[tuple[Block, int]]:
    """The blocks that a call of the kernel runs, and how often. Raises CompilerLost, BenchError."""
    text, blocks = with_counters(assembly(c_text))
    sources = {"kernel": ("assembler", text),
               "driver": ("c", driver(name, buffer_bytes, len(blocks)))}
    with tempfile.TemporaryDirectory() as folder:
        for part, (language, source) in sources.items():
            flags = [word if word != "c" else language for word in FLAGS]
            Path(folder, f"{part}.o").write_bytes(run_compiler(
                [find_compiler(), *flags, "-c", "-", "-o", "-"], source.encode()))
        program = str(Path(folder, "program"))
        for command in ([LINKER, "-o", program, *(str(Path(folder, f"{part}.o"))
                                                  for part in sources)],
                        [EMULATOR, "-cpu", CPU, program]):
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
            if done.returncode:
                last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
                raise BenchError(f"{name} does not run on an emulated {CPU}: {command[0]} ended "
                                 f"with {done.returncode} {' '.join(last)}")
    counts = np.frombuffer(done.stdout, np.uint64)
    return [(block, int(count)) for block, count in zip(blocks, counts, strict=True) if count]
