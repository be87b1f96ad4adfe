"""The sources of the C brain: as C and C++, under sanitizers, and its example."""
import ctypes
import hashlib
import json
import os
import random
import re
import subprocess

import pytest

from seed.runtime import Brain, seal, state_file
from seed.wavecore.compiler import find_compiler
from tests.support.c_brain import SOURCES, C, litert_library
from tests.support.described_bodies import CHANGES, wrong_bodies
from tests.support.descriptions import described

SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MUTATIONS, OTHER_BYTES = 40, b'{}[]",:\\0919.e-xn \n\0\xff'
LOAD = """
#include <stdio.h>
#include "seed_brain.h"
int main(int argc, char **argv) {
    seed_brain *brain = seed_open(argv[1], argv[2], NULL);
    for (int i = 3; brain && i < argc; i++) {
        int failed = seed_load_state(brain, argv[i]);
        puts(failed ? seed_error(brain) : "loaded");
        if (!failed && !seed_save_state(brain, argv[i])) failed = seed_load_state(brain, argv[i]);
        if (failed && !seed_step(brain, 65)) return 1;
    }
    seed_close(brain);
    return !brain;
}
"""


def test_checksums_are_those_of_hashlib(library):
    digest, hash_bytes = ctypes.create_string_buffer(16), 8 * 9 + 8 + 128
    for count in (*range(0, 3), *range(126, 131), *range(254, 259), 1000, 100_001):
        data = bytes(i * 7 % 256 for i in range(count))
        state = ctypes.create_string_buffer(hash_bytes)
        library.blake2b_begin(state)
        for part in (data[:count // 3], data[count // 3:]):
            library.blake2b_add(state, part, ctypes.c_size_t(len(part)))
        library.blake2b_end(state, digest)
        assert digest.raw == hashlib.blake2b(data, digest_size=16).digest(), count


@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_sources_compile_without_a_warning(tmp_path, language):
    for flags in (["-std=c11"] if language == "c" else ["-std=c++17"], []):
        subprocess.run([find_compiler(), "-x", language, *flags, "-O2", "-Wall", "-Wextra",
                        "-Werror", "-fsyntax-only", str(C / "step.c"), *map(str, SOURCES)],
                       check=True, cwd=tmp_path)


def test_flags_that_change_what_a_number_is_are_refused(tmp_path):
    """Else motors may get what comes of logits that are not finite."""
    for flag in ("-ffast-math", "-ffinite-math-only"):
        done = subprocess.run([find_compiler(), flag, "-fsyntax-only", str(C / "seed_brain.c")],
                              capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode and "without -ffast-math" in done.stderr


def build_command(language: str) -> str:
    """The one that step.c gives, with the compiler at hand."""
    command = re.search(r"^ \*     (clang .+)$", (C / "step.c").read_text(), re.MULTILINE)[1]
    return command.replace("clang", f"{find_compiler()} -x {language}", 1)


@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_example_is_built_by_its_own_line_and_prints_times(acting, tmp_path, language):
    for path in C.iterdir():
        (tmp_path / path.name).symlink_to(path)
    subprocess.run(build_command(language), shell=True, check=True, cwd=tmp_path)
    done = subprocess.run(["./step", acting, str(litert_library()), "50", "1000"], cwd=tmp_path,
                          capture_output=True, text=True, check=True)
    number = r"[\d.]+"
    assert re.fullmatch(
        f"open ms: {number}\nticks: 50 at 1000 Hz(, FIFO)?, late: {number}\n"
        f"tick us: p50 {number}, p99 {number}, p99.9 {number}, max {number}\n"
        f"woken after us: p50 {number}, p99 {number}, p99.9 {number}, max {number}\n"
        f"resident: {number} MB at most\n", done.stdout)
    done = subprocess.run(["./step", "none"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2, "none: No such file or directory; name an exported brain\n")


def test_wrong_files_do_not_lead_beyond_an_array(acting, tmp_path):
    """Under the address and undefined-behaviour sanitizers: a right file, wrong ones, damage."""
    program = tmp_path / "step"
    subprocess.run([find_compiler(), "-g", "-O1", *SANITIZED, str(C / "step.c"),
                    *map(str, SOURCES), "-o", str(program), "-ldl", "-lm"], check=True)
    with open(acting, "rb") as file:
        whole = file.read()
    files = [whole, *wrong_bodies(acting), b"", whole[:len(whole) - 20]]
    files += [described(whole, change) for change, _ in CHANGES]
    files += [whole[:whole.index(b'{"blake2b"') + i] for i in (5, 20)]
    codes, rng, at = [], random.Random(0), whole.index(b'{"blake2b"') + 45
    for _ in range(MUTATIONS):   # a byte of the description
        i = rng.randrange(at, at + len(json.dumps(Brain(acting).description)) - 200)
        files.append(seal(whole[:i] + bytes([rng.choice(OTHER_BYTES)]) + whole[i + 1:]))
    for data in files:
        (tmp_path / "f.tflite").write_bytes(data)
        done = subprocess.run([program, tmp_path / "f.tflite", litert_library(), "9", "0"],
                              capture_output=True, text=True,
                              env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
        codes.append(done.returncode)
    assert codes[0] == 0 and set(codes[1:-MUTATIONS]) == {2}
    assert set(codes[-MUTATIONS:]) == {0, 2}   # another number may be right


def test_wrong_states_do_not_lead_beyond_an_array(acting, saved, tmp_path):
    """Under the same sanitizers: a right one, damaged ones with a right checksum."""
    path, program = saved[1], tmp_path / "load"
    subprocess.run([find_compiler(), "-g", "-O1", *SANITIZED, f"-I{C}", "-x", "c", "-",
                    *map(str, SOURCES), "-o", str(program), "-ldl", "-lm"], input=LOAD, text=True,
                   check=True)
    rest, rng = state_file.read_state(path, 2 ** 30), random.Random(0)
    line = rest.index(b"\n")
    mutated = [rest, rest[:line // 2], rest[:line], rest[line:], b"", b"\n", b"[\n", b"{}\n"]
    for _ in range(150):
        i = rng.randrange(line)
        mutated.append(rest[:i] + bytes([rng.choice(OTHER_BYTES)]) + rest[i + 1:])
    paths = []
    for i, data in enumerate(mutated):
        paths.append(tmp_path / str(i))
        digest = hashlib.blake2b(data, digest_size=state_file.DIGEST_BYTES).digest()
        paths[-1].write_bytes(state_file.MAGIC + digest + data)
    done = subprocess.run([program, acting, litert_library(), *paths], capture_output=True,
                          text=True, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "loaded" and set(lines[1:8]).isdisjoint(["loaded"])
    assert len(lines) == len(paths) and len(set(lines)) > 2
