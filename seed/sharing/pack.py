"""A brain as one file for others: an uncompressed zip of a few named files and their hashes.

Its first file, the manifest, has the size and SHA-256 of all others. The same brain gives the same
bytes.
"""
import hashlib
import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import seed
from seed.errors import CheckpointError
from seed.evaluation import TrainedBrain
from seed.profile_file import to_toml
from seed.regular_file import blocks, read_bytes
from seed.runtime import describe
from seed.runtime.sealed_file import read
from seed.sharing import card
from seed.sharing.brain_description import lineage_of
from seed.storage import RunDir, atomic_file
from seed.storage.checkpoint import Checkpoint
from seed.storage.output_file import check_output
from seed.storage.replay import MAX_FILE_BYTES, Replay
from seed.storage.run_dir import Log

FORMAT = 1
MANIFEST = "manifest.json"
LINEAGE = "lineage.jsonl"
REQUIRED = ("README.md", "checkpoint.safetensors", "config.json", "model.safetensors",
            "profile.toml")
OPTIONAL = ("brain.tflite", LINEAGE)
EARLIEST = (1980, 1, 1, 0, 0, 0)   # of a zip file: the time is no part of a brain
MANIFEST_AT = 30                   # where the first file's name is in a zip


class Packed(NamedTuple):
    path: Path
    size: int              # bytes
    files: list[str]


def is_pack(head: bytes) -> bool:
    """By the first bytes of a file."""
    return head.startswith(b"PK\3\4") and head[MANIFEST_AT:].startswith(MANIFEST.encode())


def pack(run_dir: RunDir, out: Path, log: Log = print,
         license: str = card.UNKNOWN_LICENSE) -> Packed:
    """Writes the newest brain of a run directory with its exported file, if that is of this brain.

    Raises ConfigError if there is none or `out` cannot be used, CheckpointError, BrainError,
    OSError; nothing is written then.
    """
    card.check_license(license)
    check_output("--out", out, "a packed brain", is_pack)
    newest = run_dir.load_brain(log)
    trained = TrainedBrain.of(newest)
    files = {"checkpoint.safetensors": _checkpoint(run_dir, newest.sha256)}
    if run_dir.exported_brain.exists():
        data = read(run_dir.exported_brain)
        description = describe(data, str(run_dir.exported_brain))
        if description.get("checkpoint_sha256") == newest.sha256:
            files["brain.tflite"] = data
        else:
            log(f"{run_dir.exported_brain} is of another checkpoint and left out: export it again")
    lineage = lineage_of(run_dir)
    if lineage:
        files[LINEAGE] = "".join(json.dumps(row._asdict()) + "\n" for row in lineage).encode()
    files |= _taught(run_dir, newest, log)
    names = [*sorted(files), "config.json", "model.safetensors", "profile.toml"]
    files |= {
        "README.md": card.card(trained, card.scores(run_dir, trained.step), lineage, names,
                               license).encode("utf-8", "replace"),
        "config.json": json.dumps(card.config(trained), indent=2).encode(),
        "model.safetensors": card.weights(trained),
        "profile.toml": to_toml(trained.profile).encode("utf-8", "surrogateescape")}
    _tell_private_names(trained, log)
    data = _zip({MANIFEST: _manifest(trained, files), **dict(sorted(files.items()))})
    atomic_file.write(out, data)
    return Packed(out, len(data), sorted(files))


def _checkpoint(run_dir: RunDir, sha256: str) -> bytes:
    """The bytes of the generation that was read. Raises CheckpointError if a save replaced it."""
    for path in (run_dir.checkpoint, run_dir.previous_checkpoint):
        data = b"".join(blocks(path)) if path.exists() else b""
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    raise CheckpointError(f"{run_dir} was saved meanwhile: try again, or stop its training")


def _taught(run_dir: RunDir, newest: Checkpoint, log: Log) -> dict[str, bytes]:
    """The file of what it was taught, which its next trainings replay and others will read."""
    taught = Replay.read(run_dir, newest.meta, log)
    if not taught.rules:
        return {}
    path = run_dir.replay(taught.digest)
    n, names = sum(map(len, taught.rules.values())), ", ".join(taught.rules)
    log(f"the pack has {n:,} examples that the brain was taught, of {names}")
    return {path.name: read_bytes(path, MAX_FILE_BYTES)}


def _tell_private_names(trained: TrainedBrain, log: Log) -> None:
    """Its settings name files of this machine, which others will read."""
    profile = trained.profile
    names = [name for name in (*profile.curriculum.tasks, *profile.body.rounds, *profile.body.data,
                               profile.teacher.url, profile.distill.parent) if "/" in name]
    if names:
        log(f"the packed settings name what is on this machine: {', '.join(names)}")


def _manifest(trained: TrainedBrain, files: dict[str, bytes]) -> bytes:
    fields: dict[str, Any] = {
        "format": FORMAT, "made_by": f"seed {seed.__version__}", "profile": trained.profile.name,
        "step": trained.step, "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(files.items())}}
    return json.dumps(fields, indent=2).encode()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, EARLIEST)
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return buffer.getvalue()
