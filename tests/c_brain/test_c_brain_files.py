"""The C brain refuses the files that seed.runtime refuses, and libraries that are no LiteRT."""
import ctypes
import json
import os
import re
import subprocess

import pytest

from seed.runtime import Brain
from seed.wavecore.compiler import find_compiler
from tests.support.c_brain import CBrain, declared_functions, error_of, litert_library
from tests.support.described_bodies import CHANGES, wrong_bodies
from tests.support.descriptions import described


def test_damaged_and_foreign_files_are_refused_in_pythons_words(library, acting, tmp_path):
    with open(acting, "rb") as file:
        whole = file.read()
    path = tmp_path / "damaged.tflite"
    at = whole.index(b'{"blake2b"')
    flips = [*range(4, 9), *range(at - 5, at + 60), *range(60, len(whole), len(whole) // 60)]
    for data in (*(whole[:i] + bytes([whole[i] ^ 16]) + whole[i + 1:] for i in flips),
                 whole[:-1], whole + b"x", whole[:at + 20], whole[:at + 5], whole[:100], b"",
                 b"PK\3\4" + b"x" * 99, b"\x1c\0\0\0TFL3" + b"\0" * 200):
        path.write_bytes(data)
        assert error_of(CBrain, library, path) == error_of(Brain, path)


def test_what_is_not_a_file_is_refused_at_once(library, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path, tmp_path / "pipe"):
        assert error_of(CBrain, library, path) == f"{path} is not a file: name an exported brain"
    for path in (tmp_path / "none", ""):
        assert error_of(CBrain, library, path) == (
            f"{path}: No such file or directory; name an exported brain")
    assert "/proc/self/mem" in error_of(CBrain, library, "/proc/self/mem")


@pytest.mark.parametrize("change, message", CHANGES, ids=str)
def test_a_sealed_file_with_a_wrong_description_is_refused(library, acting, tmp_path, change,
                                                           message):
    path = tmp_path / "f.tflite"
    with open(acting, "rb") as file:
        path.write_bytes(described(file.read(), change))
    assert re.search(message, error_of(CBrain, library, path))
    error_of(Brain, path)


def test_a_second_checksum_in_the_description_is_refused(library, acting, tmp_path):
    path, fields = tmp_path / "f.tflite", {**Brain(acting).description, "profile": {}}
    del fields["blake2b"]
    with open(acting, "rb") as file:
        path.write_bytes(described(file.read(), f',{json.dumps(fields)[1:-1]},"blake2b":5}}'))
    assert "wrong description" in error_of(CBrain, library, path)


def test_a_sealed_file_with_a_wrong_body_is_refused(library, acting, tmp_path):
    path = tmp_path / "f.tflite"
    for data in wrong_bodies(acting):
        path.write_bytes(data)
        assert re.search("wrong description|right tensor", error_of(CBrain, library, path))
        error_of(Brain, path)


def test_the_library_exports_what_the_header_declares():
    exported = ctypes.CDLL(str(litert_library()))
    names = declared_functions()
    assert len(names) > 20 and "LiteRtRunCompiledModel" in names
    assert not [name for name in names if not hasattr(exported, name)]


def test_a_library_that_lacks_a_function_or_is_none_is_named(library, acting, tmp_path):
    names = declared_functions()
    for missing in (names[0], names[-1]):
        path = tmp_path / f"without_{missing}.so"
        text = "".join(f"int {name}(void) {{ return 1; }}\n" for name in names if name != missing)
        subprocess.run([find_compiler(), "-x", "c", "-", "-shared", "-fPIC", "-o", str(path)],
                       input=text, text=True, check=True)
        assert error_of(CBrain, library, acting, path) == (
            f"{path} has no {missing}: use that of ai-edge-litert 2.1.6 or newer")
    for path in (tmp_path / "none.so", acting):
        assert re.fullmatch("no LiteRT: .*; pip install ai-edge-litert, and name its libLiteRt.so",
                            error_of(CBrain, library, acting, path))
