"""Heat, under-voltage, little memory and a full disk while a brain lives: `seed live` in a mount
namespace with sensors and a disk of its own. Learning stops, and continues; the loop acts on."""
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from seed.live.shared_block import Block
from tests.soak.live_storm import SMALL
from tests.support.namespace import needs_mounts, thermal_zones, with_mounts

MAX_S = 300
DISK_MB = 128


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """A life that learns, with what a test may change."""
    needs_mounts()
    folder = tmp_path_factory.mktemp("life")
    life = Life(folder)
    with life.living():
        yield life


class Life:
    def __init__(self, folder: Path):
        self.folder, self.run_dir, self.log = folder, folder / "run", folder / "log"
        self.temp = folder / "thermal/thermal_zone0/temp"
        self.meminfo, self.throttled = folder / "meminfo", folder / (
            "platform/soc/soc:firmware/get_throttled")

    @contextmanager
    def living(self):
        live_dir = self.run_dir / "live"
        subprocess.run([sys.executable, "-m", "seed", "train", "--body", "cartpole", "--threads=1",
                        "--profile=control", *(f"--set={text}" for text in SMALL),
                        "--run-dir", str(self.run_dir)], check=True, capture_output=True)
        live_dir.mkdir()
        self.throttled.parent.mkdir(parents=True)
        self.throttled.write_text("0\n")
        self.meminfo.write_text(Path("/proc/meminfo").read_text())
        setup = (f"mount -t tmpfs -o size={DISK_MB}m none '{live_dir}'\n"
                 f"{thermal_zones(self.folder / 'thermal', cpu='50000')}\n"
                 f"mount --bind '{self.folder}/platform' /sys/devices/platform\n"
                 f"mount --bind '{self.meminfo}' /proc/meminfo")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(with_mounts(
                setup, sys.executable, "-m", "seed", "live", "--run-dir", self.run_dir, "--body",
                "cartpole", "--learn-every=1000", "--learn-minutes=0.02",
                # However busy this machine is.
                "--set=live.slow_late=1", "--set=live.pause_late=1"), stdout=log, stderr=log)
        self.live_dir = Path(f"/proc/{self.process.pid}/root") / live_dir.relative_to("/")
        self.wait(lambda: (self.live_dir / "block").is_symlink(), "the fast loop")
        self.block = Block(Path(os.readlink(self.live_dir / "block")))
        try:
            self.acts(100)
            yield
        finally:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(MAX_S) == 0, self.log.read_text()

    def wait(self, is_true_fn: Callable[[], object], what: str) -> None:
        ends_s = time.monotonic() + MAX_S
        while not is_true_fn():
            assert time.monotonic() < ends_s and self.process.poll() is None, (
                what, self.log.read_text()[-2000:], self.status())
            time.sleep(0.1)

    def status(self) -> dict:
        try:
            return json.loads((self.run_dir / "status.json").read_text())
        except OSError:
            return {"reason": "", "action": "", "learning": ""}

    def acts(self, n_ticks: int) -> str:
        """Waits until the brain has acted for so many ticks more; how well."""
        words = self.block.words()
        self.wait(lambda: self.block["ticks"] >= words["ticks"] + n_ticks, "a tick")
        assert self.block["faults"] == words["faults"]
        return (f"{self.block['ticks'] - words['ticks']:.0f} ticks, "
                f"{self.block['missed'] - words['missed']:.0f} missed, "
                f"{self.block['late'] - words['late']:.0f} late")

    def n_decisions(self) -> int:
        return (self.live_dir / "lineage.jsonl").read_bytes().count(b"\n")


@pytest.mark.long
@pytest.mark.parametrize("name, text, normal, reason, action", [
    ("temp", "85000\n", "50000\n", "85", "pause"),
    ("throttled", "1\n", "0\n", "under-voltage", "pause"),
    ("meminfo", "MemTotal: 8000000 kB\nMemAvailable: 1000 kB\n", "", "memory", "stop")])
def test_the_loop_acts_on_while_the_board_is_unwell(life, capsys, name, text, normal, reason,
                                                    action):
    path = getattr(life, name)
    before = path.read_text()
    path.write_text(text)
    life.wait(lambda: reason in life.status()["reason"] and life.status()["action"] == action,
              reason)
    decisions = life.n_decisions()
    figures = life.acts(300)
    assert action != "pause" or life.n_decisions() <= decisions + 1   # one may have ended just then
    path.write_text(normal or before)
    life.wait(lambda: reason not in life.status()["reason"], f"the end of {reason}")
    decisions = life.n_decisions()
    life.wait(lambda: life.n_decisions() > decisions, "what is learnt after that")
    with capsys.disabled():
        print(f"\n{name}: {figures}")


@pytest.mark.long
def test_the_loop_acts_on_while_the_disk_is_full(life, capsys):
    fill = life.live_dir / "fill"
    with open(fill, "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(2 ** 20))
            file.write(b"0")
    life.wait(lambda: "nothing more is recorded" in life.log.read_text(), "a full disk")
    figures = life.acts(300)
    files = set((life.live_dir / "episodes").iterdir())
    fill.unlink()
    life.wait(lambda: any(path.stat().st_size for path in set(
        (life.live_dir / "episodes").iterdir()) - files), "a new recording")
    decisions = life.n_decisions()
    life.wait(lambda: life.n_decisions() > decisions, "what is learnt after that")
    with capsys.disabled():
        print(f"\nfull disk: {figures}")
