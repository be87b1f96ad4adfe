"""A packed brain becomes a run directory. It may come from anybody: it is opened as data alone.

Only the files of a pack are accepted, by their names; none has a folder, is a link or is
compressed. All hashes are checked before anything is written, the brain before its directory has
its name.
"""
import hashlib
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.numpy

from seed.errors import ConfigError, PackError, SeedError
from seed.evaluation import TrainedBrain
from seed.regular_file import BLOCK_BYTES, parse_json, reader
from seed.runtime import BrainError, describe
from seed.runtime.sealed_file import read
from seed.runtime.structure import check_structure
from seed.sharing.pack import FORMAT, MANIFEST, OPTIONAL, REQUIRED, is_pack
from seed.storage import RunDir, atomic_file, checkpoint
from seed.storage.atomic_file import make_directory, sync_directory
from seed.storage.replay import FILE_NAME, KEY, Replay

MAX_PACK_BYTES = 2 ** 31
MAX_MANIFEST_BYTES = MAX_DIRECTORY_BYTES = 2 ** 16   # of the zip's directory of names
END = struct.Struct("<4s4H2LH")                      # of a zip file
END_64 = b"PK\6\7"                                   # of one with 64-bit sizes, before END
END_64_BYTES = 20
STAGING = ".unpacking"   # end of the directory's name before it is whole


def unpack(path: Path, run_dir: RunDir) -> dict[str, Any]:
    """Makes the run directory, which must not be there or be empty; returns the manifest.

    Raises PackError if the file is not a whole pack of a usable brain, ConfigError if there is
    something in the directory, InUse, OSError; there is no such directory then.
    """
    _check_new(run_dir.path)
    with reader(path) as file:
        archive = _archive(path, file)
        manifest = _manifest(path, archive)
        for name, entry in manifest["files"].items():   # before anything is written
            _check(path, archive, name, entry)
        target = run_dir.path.absolute()
        staging = RunDir(target.with_name(f".{target.name}{STAGING}"))
        if staging.path.is_symlink():
            raise ConfigError(f"{staging} is a link: remove it, or use another --run-dir")
        make_directory(target.parent)
        with staging.locked():
            try:
                _check_new(run_dir.path)   # another process may have made it meanwhile
                _write(path, archive, manifest, staging)
                _check_brain(path, staging, manifest)
                os.rename(staging.path, target)
            except BaseException:
                shutil.rmtree(staging.path, ignore_errors=True)
                raise
        sync_directory(target.parent)
    return manifest


def _check_new(path: Path) -> None:
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir() or os.listdir(path)):
        raise ConfigError(f"--run-dir {path} is there already: name a new directory")


def _archive(path: Path, file: BinaryIO) -> zipfile.ZipFile:
    """Its table of names is small and ends the file: nothing else is read of it yet."""
    size = os.fstat(file.fileno()).st_size
    if not is_pack(file.read(64)) or not END.size < size <= MAX_PACK_BYTES:
        raise PackError(f"{path} is no packed brain: make one with seed pack")
    file.seek(max(0, size - END.size - END_64_BYTES))
    tail = file.read()
    mark, disk, first, here, count, length, start, comment = END.unpack(tail[-END.size:])
    is_whole = (mark == b"PK\5\6" and disk == first == comment == 0 and here == count
                and length <= MAX_DIRECTORY_BYTES and start + length + END.size == size)
    if not is_whole or tail.startswith(END_64):
        raise PackError(f"{path} is not a whole pack: copy it again")
    try:
        archive = zipfile.ZipFile(file)
        infos, names = archive.infolist(), archive.namelist()
        is_plain = all(
            info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
            and info.compress_size == info.file_size and stat.S_ISREG(info.external_attr >> 16)
            for info in infos)
    except Exception as error:   # of any kind: any byte may be wrong
        raise PackError(f"{path} is not a whole pack: {' '.join(str(error).split()):.100}; copy it "
                        f"again") from None
    accepted = {MANIFEST, *REQUIRED, *OPTIONAL}
    taught = [name for name in names if FILE_NAME.fullmatch(name)]   # by its hash
    if len(set(names)) != len(names) or len(taught) > 1 or not is_plain \
            or not set(names) <= accepted | set(taught):
        raise PackError(f"{path} has files that no pack has: it is not used")
    if sum(info.file_size for info in infos) > size:
        raise PackError(f"{path} claims more than it has: it is not used")
    return archive


def _manifest(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        if archive.getinfo(MANIFEST).file_size > MAX_MANIFEST_BYTES:
            raise ValueError
        manifest = parse_json(b"".join(_blocks(path, archive, MANIFEST)))
        version, files = manifest["format"], manifest["files"]
        is_right = (isinstance(files, dict) and set(files) == set(archive.namelist()) - {MANIFEST}
                    and set(REQUIRED) <= set(files)
                    and all(type(entry["bytes"]) is int and isinstance(entry["sha256"], str)
                            for entry in files.values()))
    except (KeyError, TypeError, ValueError):
        raise PackError(f"{path} has no right manifest: pack the brain again") from None
    if version != FORMAT:
        raise PackError(f"{path} is of format {str(version)[:20]}, not {FORMAT}: use the version "
                        f"of seed that packed it")
    if not is_right:
        raise PackError(f"{path} has other files than its manifest names: it is not used")
    return manifest


def _blocks(path: Path, archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    try:
        with archive.open(name) as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except OSError:
        raise
    except Exception as error:   # of any kind
        raise PackError(f"{path}: {name} cannot be read: {' '.join(str(error).split()):.100}; copy "
                        f"it again") from None


def _check(path: Path, archive: zipfile.ZipFile, name: str, entry: dict[str, Any]) -> None:
    size, digest = 0, hashlib.sha256()
    for block in _blocks(path, archive, name):
        size += len(block)
        digest.update(block)
    if (size, digest.hexdigest()) != (entry["bytes"], entry["sha256"]):
        raise PackError(f"{path}: {name} is damaged: its hash is wrong; copy the pack again")


def _write(path: Path, archive: zipfile.ZipFile, manifest: dict[str, Any], staging: RunDir) -> None:
    """Into a directory that is cleared of what a killed process has left there."""
    for old in staging.path.iterdir():
        if old != staging.lock:
            old.unlink()
    for name in (*manifest["files"], MANIFEST):
        data = b"".join(_blocks(path, archive, name))
        entry = manifest["files"].get(name)
        if entry and hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise PackError(f"{path} was changed meanwhile: try again")
        atomic_file.write(staging.path / name, data)


def _refuse(reason: str) -> None:
    raise PackError(reason)


def _check_brain(path: Path, staging: RunDir, manifest: dict[str, Any]) -> None:
    """Raises PackError unless the files are a brain, and all of the one that the manifest names."""
    try:
        newest = checkpoint.read(staging.checkpoint)
        trained = TrainedBrain.of(newest)
        params = trained.params
        weights = safetensors.numpy.load_file(staging.path / "model.safetensors")
        is_same = weights.keys() == params.keys() and all(
            np.array_equal(weights[key], array) for key, array in params.items())
        named = manifest.get("profile"), manifest.get("step")
        is_same &= named == (trained.profile.name, trained.step)
        if staging.exported_brain.exists():
            data = read(staging.exported_brain)
            description = describe(data, "brain.tflite")
            check_structure(data, description)
            is_same &= description.get("checkpoint_sha256") == newest.sha256
        taught = [match[1] for match in map(FILE_NAME.fullmatch, os.listdir(staging.path)) if match]
        is_same &= taught in ([], [newest.meta.get(KEY)])
        if taught and is_same:
            Replay.read(staging, newest.meta, _refuse)
    except (SeedError, BrainError) as error:
        reason = str(error).replace(f"{staging.path}/", "")
        raise PackError(f"{path}: {reason}") from None
    except Exception:   # of any kind: any byte may be wrong
        raise PackError(f"{path}: its weights or its exported file are damaged: pack the brain "
                        f"again") from None
    if not is_same:
        raise PackError(f"{path} has files of different brains: pack the brain again")
