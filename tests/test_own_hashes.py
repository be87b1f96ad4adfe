"""The command line does without OpenSSL's hashes, and other programs that import seed keep them."""
import subprocess
import sys

SUMS = """
import {module}, hashlib, hmac, secrets, sys
print("_hashlib" in sys.modules)
for digest in (hashlib.sha256(b"x"), hashlib.new("sha256", b"x")):
    assert digest.hexdigest().startswith("2d711642")
keyed = hmac.new(b"k", b"x", "sha256").digest()
assert hmac.compare_digest(keyed, hmac.digest(b"k", b"x", "sha256"))
assert len(secrets.token_hex(4)) == 8
import _hashlib
"""


def loads_openssl(module: str) -> str:
    return subprocess.run([sys.executable, "-c", SUMS.format(module=module)], text=True, check=True,
                          stdout=subprocess.PIPE).stdout.strip()


def test_a_command_does_not_load_openssl_for_its_hashes():
    assert loads_openssl("seed.__main__, numpy") == "False"


def test_a_program_that_imports_the_runtime_has_its_hashes_as_they_were():
    assert loads_openssl("seed.runtime") == "True"
