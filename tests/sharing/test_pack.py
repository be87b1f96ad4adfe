"""seed pack and unpack: the same brain arrives, whole or not at all; a hostile pack is data."""
import dataclasses
import hashlib
import io
import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from seed import errors
from seed.__main__ import main
from seed.curriculum.task import Item
from seed.errors import ConfigError, PackError
from seed.export import build
from seed.profile_file import load_profile
from seed.sharing import card
from seed.sharing import unpack as unpack_module
from seed.sharing.pack import MANIFEST, REQUIRED, pack
from seed.sharing.unpack import unpack
from seed.storage import RunDir, checkpoint, replay
from seed.storage.removal import check_removable
from tests.support import brains
from tests.support.tflite import SMALL

ROWS = [{"task": "copy", "level": 1, "correct": 3, "count": 4, "chance": 0.1}]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> RunDir:
    """A run that was evaluated, exported and lived."""
    run_dir = RunDir(tmp_path_factory.mktemp("source"))
    brains.untrained(run_dir.path, "toy", *SMALL)
    run_dir.metrics.write_text(json.dumps({"kind": "eval", "step": 7, "scores": ROWS}) + "\n")
    (run_dir.path / "live").mkdir()
    (run_dir.path / "live/lineage.jsonl").write_text(json.dumps(
        {"decision": "first", "brain": "aa", "generation": 1, "time": "T1"}) + "\n")
    build(run_dir, verified=False, log=lambda line: None)
    return run_dir


@pytest.fixture(scope="module")
def packed(source, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("packed") / "brain.seedpack"
    pack(source, path)
    return path.read_bytes()


def files_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED, mode: int = 0o100644,
           seal: bool = True) -> bytes:
    """A pack of other files, with their right hashes."""
    if seal:
        manifest = json.loads(files[MANIFEST])
        manifest["files"] = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                             for name, data in files.items() if name != MANIFEST}
        files = {**files, MANIFEST: json.dumps(manifest).encode()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr, info.compress_type = 3, mode << 16, compression
            archive.writestr(info, data)
    return buffer.getvalue()


def refuse(data: bytes, folder: Path) -> str:
    """The message; nothing is written."""
    path = folder / "hostile.seedpack"
    path.write_bytes(data)
    before = sorted(os.listdir(folder))
    with pytest.raises(PackError) as error:
        unpack(path, RunDir(folder / "new"))
    message = str(error.value)
    assert sorted(os.listdir(folder)) == before and "hostile.seedpack" in message
    assert "\n" not in message and len(message) < 300
    return message


def test_a_brain_arrives_with_all_that_belongs_to_it(source, packed, tmp_path, capsys):
    path, new = tmp_path / "b.seedpack", tmp_path / "far/new"
    path.write_bytes(packed)
    assert main(["unpack", str(path), "--run-dir", str(new)]) == 0
    assert "profile toy, step 7" in capsys.readouterr().out
    arrived = RunDir(new)
    assert arrived.checkpoint.read_bytes() == source.checkpoint.read_bytes()
    assert arrived.exported_brain.read_bytes() == source.exported_brain.read_bytes()
    assert load_profile(str(new / "profile.toml")).model == brains.trained(
        source.checkpoint).profile.model
    assert main(["info", str(new), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["lineage"] == {"T1": "first aa"} and facts["step"] == 7
    check_removable(arrived)   # all of it is a run's
    assert main(["pack", str(new), "--out", str(tmp_path / "again.seedpack")]) == 0
    assert files_of((tmp_path / "again.seedpack").read_bytes())["lineage.jsonl"] == files_of(
        packed)["lineage.jsonl"]
    assert sorted(os.listdir(tmp_path / "far")) == ["new"]


def test_the_same_brain_gives_the_same_bytes(source, packed, tmp_path):
    pack(source, tmp_path / "b.seedpack")
    assert (tmp_path / "b.seedpack").read_bytes() == packed


def test_weights_and_configuration_are_enough_for_another_framework(source, packed):
    files, trained = files_of(packed), brains.trained(source.checkpoint)
    weights = safetensors.numpy.load(files["model.safetensors"])
    assert weights.keys() == trained.params.keys()
    assert all(np.array_equal(weights[key], trained.params[key]) for key in weights)
    config = json.loads(files["config.json"])
    assert (config["model_type"], config["layer_kinds"]) == ("seed_brain", "SSA")
    assert config["ssm_heads"] * config["head_dim"] == config["d_inner"]


def test_the_card_has_front_matter_scores_lineage_and_no_folders(tmp_path):
    brains.untrained(tmp_path, "toy", *SMALL, 'curriculum.tasks={"/home/me/a.py:T"=1}')
    run_dir, lines = RunDir(tmp_path), []
    rows = [{**ROWS[0], "task": "/home/me/a.py:T"}, {**ROWS[0], "level": 2, "count": 12}]
    run_dir.metrics.write_text(json.dumps({"kind": "eval", "step": 7, "scores": rows}) + "\n")
    pack(run_dir, tmp_path / "b.seedpack", lines.append, "cc-by-4.0")
    card = files_of((tmp_path / "b.seedpack").read_bytes())["README.md"].decode()
    head, _, text = card.removeprefix("---\n").partition("\n---\n")
    fields = {key: json.loads(value) for key, value in (
        line.split(": ", 1) for line in head.splitlines())}
    assert (fields["license"], fields["library_name"]) == ("cc-by-4.0", "seed-brain")
    metric = fields["model-index"][0]["results"][0]["metrics"][0]
    assert metric == {"type": "exact_match", "name": "exact match, mean of levels", "value": 0.5}
    assert "| a.py:T | 1 | 3 of 4 |" in text and "/home" not in card
    assert lines == ["the packed settings name what is on this machine: /home/me/a.py:T"]


@pytest.mark.parametrize("name, shown", [
    ("robot \U0001F916", None), ("a\x7f\x9b\u2028b", r"a\x7f\x9b\u2028b")])
def test_front_matter_has_a_name_as_it_is_and_nothing_that_yaml_cannot_have(source, name, shown):
    """JSON writes a character beyond 16 bits as two halves, which YAML takes for two characters."""
    trained = brains.trained(source.checkpoint)
    trained = dataclasses.replace(trained, profile=dataclasses.replace(trained.profile, name=name))
    text = card.card(trained, ROWS, [], [], "mit")
    line = next(line for line in text.split("\n") if line.startswith("model-index: "))
    assert f'"name": {json.dumps(shown or name, ensure_ascii=False)}, "results"' in line
    assert line.isprintable()


@pytest.fixture
def taught(tmp_path) -> RunDir:
    """A brain that was taught 40 examples by an adaptation."""
    run_dir = RunDir(tmp_path / "taught")
    run_dir.path.mkdir()
    brains.untrained(run_dir.path, "toy", *SMALL)
    newest = checkpoint.read(run_dir.checkpoint)
    digest = replay.write(run_dir, {"a.jsonl": [
        Item("a", 1, f"{i}?".encode(), b"x") for i in range(40)]})
    run_dir.save(newest.tensors, {**newest.meta, "replay": digest}, keep_newest=False)
    return run_dir


def test_a_brain_arrives_with_the_examples_that_it_was_taught(taught, tmp_path):
    lines, path, new = [], tmp_path / "b.seedpack", RunDir(tmp_path / "arrived")
    name = next(taught.path.glob("replay.*")).name
    assert name in pack(taught, path, lines.append).files
    assert lines == ["the pack has 40 examples that the brain was taught, of a.jsonl"]
    unpack(path, new)
    assert (new.path / name).read_bytes() == (taught.path / name).read_bytes()
    check_removable(new)
    files = files_of(path.read_bytes())
    without = zipped({each: data for each, data in files.items() if each != name})
    path.write_bytes(without)
    unpack(path, RunDir(tmp_path / "without"))   # as of a run whose file is gone
    other = f"replay.{'0' * 32}.jsonl"
    for changed, message in (
            ({**files, name: files[name][:-9]}, "it has other bytes than the brain was taught"),
            ({**files_of(without), other: b""}, "files of different brains"),
            ({**files, other: b""}, "files that no pack has")):
        assert message in refuse(zipped(changed), tmp_path)


def test_an_exported_file_of_another_brain_is_left_out_and_told(source, tmp_path):
    brains.untrained(tmp_path, "toy", *SMALL)
    run_dir, lines = RunDir(tmp_path), []
    run_dir.exported_brain.write_bytes(source.exported_brain.read_bytes().replace(b"x", b"x"))
    other = brains.weights(load_profile("toy", SMALL), 1)
    brains.save(tmp_path, load_profile("toy", SMALL), other)
    packed = pack(run_dir, tmp_path / "b.seedpack", lines.append)
    assert packed.files == sorted(REQUIRED) and "left out: export it again" in lines[0]


@pytest.mark.parametrize("arguments, message", [
    (["--out", "b", "--license", "MIT License"], "--license 'MIT License': use an identifier"),
    (["--out", "no/such/b"], "is not a directory: create it first"),
    (["--out", "checkpoint.safetensors"], "is not a packed brain: use another name")])
def test_what_cannot_be_packed_is_one_line(source, tmp_path, capsys, arguments, message):
    name = arguments[1]
    arguments[1] = str(source.checkpoint if name.endswith("tensors") else tmp_path / name)
    before = source.checkpoint.read_bytes()
    assert main(["pack", str(source), *arguments]) == errors.BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert source.checkpoint.read_bytes() == before


def test_a_directory_that_is_there_is_never_touched(source, packed, tmp_path, capsys):
    path = tmp_path / "b.seedpack"
    path.write_bytes(packed)
    (tmp_path / "empty").mkdir()
    unpack(path, RunDir(tmp_path / "empty"))
    brains.untrained(tmp_path / "brain", "toy", *SMALL, "train.seed=5")
    before = RunDir(tmp_path / "brain").checkpoint.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("brain", "link", "b.seedpack", "empty"):
        assert main(["unpack", str(path), "--run-dir", str(tmp_path / name)]) == errors.BAD_INPUT
        assert "is there already: name a new directory" in capsys.readouterr().err
    assert RunDir(tmp_path / "brain").checkpoint.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()


def test_a_kill_leaves_no_run_and_the_same_command_succeeds(packed, tmp_path, monkeypatch):
    """After the first file that is written, and just before the directory gets its name."""
    path, new = tmp_path / "b.seedpack", RunDir(tmp_path / "new")
    path.write_bytes(packed)
    for place in ("_check_brain", "atomic_file.write"):
        with monkeypatch.context() as patch:
            patch.setattr(unpack_module.shutil, "rmtree", lambda *_, **named: None)
            patch.setattr(f"seed.sharing.unpack.{place}", killed)
            with pytest.raises(SystemExit):
                unpack(path, new)
        assert sorted(os.listdir(tmp_path)) == [".new.unpacking", "b.seedpack"]
    unpack(path, new)
    assert sorted(os.listdir(tmp_path)) == ["b.seedpack", "new"]


def test_of_two_at_once_the_second_is_told_that_the_directory_is_there(packed, tmp_path,
                                                                       monkeypatch):
    path, new = tmp_path / "b.seedpack", RunDir(tmp_path / "new")
    path.write_bytes(packed)
    make_directory = unpack_module.make_directory

    def overtaken(parent: Path) -> None:
        monkeypatch.setattr(unpack_module, "make_directory", make_directory)
        unpack(path, new)
    monkeypatch.setattr(unpack_module, "make_directory", overtaken)
    with pytest.raises(ConfigError, match="is there already: name a new directory"):
        unpack(path, new)
    assert (new.path / "brain.tflite").exists()
    assert sorted(os.listdir(tmp_path)) == ["b.seedpack", "new"]


def killed(*arguments) -> None:
    raise SystemExit


@pytest.mark.attack
@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "..", "sub/README.md",
                                  "README.md/", "checkpoint.previous.safetensors", "task.py",
                                  "lock", "README.md\\..\\evil", "readme.MD"])
def test_no_other_name_is_accepted(packed, tmp_path, name):
    """Own."""
    files = files_of(packed)
    assert "files that no pack has" in refuse(zipped({**files, name: b"x"}), tmp_path)


@pytest.mark.attack
def test_links_devices_folders_and_compressed_files_are_refused(packed, tmp_path):
    """Own."""
    files = files_of(packed)
    for mode in (0o120777, 0o040755, 0o020666, 0o010644, 0):
        assert "files that no pack has" in refuse(zipped(files, mode=mode), tmp_path)
    bomb = {**files, "README.md": b"\0" * 10 ** 7}
    assert "files that no pack has" in refuse(zipped(bomb, zipfile.ZIP_DEFLATED), tmp_path)


@pytest.mark.attack
def test_every_flipped_bit_is_refused_or_changes_nothing(packed, tmp_path):
    """Own: 60 in the files, 60 in the table of names."""
    rng = np.random.default_rng(0)
    start = struct.unpack_from("<L", packed, len(packed) - 6)[0]
    places = [*rng.integers(0, start, 60), *rng.integers(start, len(packed), 60)]
    good = files_of(packed)
    for i, place in enumerate(map(int, places)):
        data = bytearray(packed)
        data[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"f{i}.seedpack"
        path.write_bytes(data)
        try:
            unpack(path, RunDir(tmp_path / f"n{i}"))
        except PackError:
            assert not (tmp_path / f"n{i}").exists()
            continue
        for name in set(good) - {MANIFEST}:
            assert (tmp_path / f"n{i}" / name).read_bytes() == good[name], place


@pytest.mark.attack
@pytest.mark.parametrize("size", [0, 1, 21, 22, 64, 1000, -1, -22, -100])
def test_what_is_cut_or_has_something_before_or_behind_it_is_refused(packed, tmp_path, size):
    """Own."""
    refuse(packed[:size], tmp_path)
    refuse(packed + b"x" * (abs(size) + 1), tmp_path)
    refuse(b"#!/bin/sh\n" + packed, tmp_path)


def manifest(packed_files: dict[str, bytes], **changes) -> dict[str, bytes]:
    fields = {**json.loads(packed_files[MANIFEST]), **changes}
    return {**packed_files, MANIFEST: json.dumps(fields).encode()}


@pytest.mark.attack
def test_a_pack_that_claims_something_else_is_refused(packed, tmp_path):
    """Own."""
    files = files_of(packed)
    without = {name: data for name, data in files.items() if name != "checkpoint.safetensors"}
    other_file = files["brain.tflite"][:-4]
    other_weights = safetensors.numpy.save({
        key: array + 1 for key, array in safetensors.numpy.load(
            files["model.safetensors"]).items()})
    cases = [
        (zipped(manifest(files, format=2)), "is of format 2, not 1"),
        (zipped(manifest(files, files=[]), seal=False), "other files than its manifest names"),
        (zipped(manifest(files, files={"README.md": 5}), seal=False), "other files than its"),
        (zipped({**files, MANIFEST: b"{}"}, seal=False), "no right manifest"),
        (zipped({**files, MANIFEST: b" " * 70_000}, seal=False), "no right manifest"),
        (zipped({**files, MANIFEST: b"[" * 60_000}, seal=False), "no right manifest"),
        (zipped(manifest(files, step=8)), "files of different brains"),
        (zipped(manifest(files, profile="\x1b[2J\n")), "files of different brains"),
        (zipped(without), "other files than its manifest names"),
        (zipped({**files, "README.md": b"x"}, seal=False), "README.md is damaged"),
        (zipped({**files, "checkpoint.safetensors": b"x"}), "checkpoint.safetensors is not a who"),
        (zipped({**files, "brain.tflite": other_file}), "brain.tflite is damaged"),
        (zipped({**files, "model.safetensors": other_weights}), "files of different brains"),
        (zipped({**files, "model.safetensors": b"x" * 99}), "its weights or its exported file")]
    for data, message in cases:
        assert message in refuse(data, tmp_path)


@pytest.mark.attack
def test_large_sizes_and_tables_of_names_are_refused_unread(packed, tmp_path, monkeypatch):
    """Own."""
    monkeypatch.setattr(unpack_module.zipfile, "ZipFile", lambda file: pytest.fail("it was read"))
    count, length, start = struct.unpack_from("<HLL", packed, len(packed) - 12)
    assert "not a whole pack" in refuse(
        packed[:-12] + struct.pack("<HLLH", count, 2 ** 31, start, 0), tmp_path)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start, 1)
    long = packed[:-22] + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count,
                                                length + 20, start, 0)
    assert "not a whole pack" in refuse(long, tmp_path)


@pytest.mark.attack
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    """Own."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError):
            unpack(path, RunDir(tmp_path / "new"))
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_link_in_the_place_of_what_is_not_whole_yet_is_not_followed(packed, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".new.unpacking").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "b.seedpack").write_bytes(packed)
    with pytest.raises(ConfigError, match="is a link: remove it"):
        unpack(tmp_path / "b.seedpack", RunDir(tmp_path / "new"))
    assert not os.listdir(tmp_path / "elsewhere")
