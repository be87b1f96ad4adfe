"""What a life has learnt apart from the base: the tables of the body that the mid loop moves.

The mid loop never moves the layers, so what it has learnt is the difference of those tables to the
ones that it began with. When the base is replaced by a newer or a larger one, that difference is
added to the tables there: an element that the newer base has not changed gets the very number that
acts now, so a base that has only grown computes what the brain before did.

It is dropped, with a reason, where it has lost its meaning: if the brain that acts has other layers
than the base, or the body has other numbers there. Then the mid loop learns it again.
"""
import numpy as np

from seed.body.episodes import EpisodeFolder
from seed.config import from_dict
from seed.live.brains import Brains
from seed.live.learn import BASE, EPISODES, Candidate
from seed.storage import RunDir, atomic_file, checkpoint, replay
from seed.storage.checkpoint import Checkpoint
from seed.storage.run_dir import Log
from seed.wavecore.layout import BODIES, VALUE_LEVELS


def carry(base: Checkpoint, acting: Checkpoint, newer: Checkpoint,
          body: str) -> tuple[Checkpoint, str]:
    """`newer`, which was trained or grown from `base`, with what `acting` has learnt of `body`
    since; and a line that says so, or why it has been dropped."""
    reason = _why_not(base, acting, newer, body)
    if reason:
        return newer, f"what was learnt of {body} is dropped: {reason}; it is learnt again"
    tensors, parts = dict(newer.tensors), [brain.meta["bodies"][body] for brain in
                                           (base, acting, newer)]
    first, learnt, last = (fields["returns"] for fields in parts)
    has_value = last == first   # else the value's levels mean other returns now
    for key in _tables(base, body):
        before, now, table = (brain.tensors[key] for brain in (base, acting, newer))
        table = table.copy()
        at = table[:, :before.shape[1]]   # the channels of a larger brain that come first
        carried = np.where(at == before, now, at + (now - before))
        if key.endswith(".control") and not has_value:
            carried[:VALUE_LEVELS] = at[:VALUE_LEVELS]
        at[...] = carried
        tensors[key] = table
    meta = {**newer.meta, "bodies": {**newer.meta["bodies"], body: {
        **parts[2], "returns": learnt if has_value else last}}}
    return newer._replace(tensors=tensors, meta=meta), (
        f"what was learnt of {body} is carried over" + ("" if has_value else ", but its value"))


def carried(work: RunDir, brains: Brains, loop: str, log: Log) -> tuple[Candidate, RunDir]:
    """The brain of `work` with what the one that acts has learnt since the base of it, and its
    directory, which is made anew. Raises CheckpointError, OSError, ConfigError."""
    assert brains.promoted
    acting = brains.promoted.brain
    newer, plane = carry(checkpoint.read(work.path / BASE), brains.run_dir(acting).load_brain(log),
                         work.load_brain(log), EpisodeFolder(work.path / EPISODES).body)
    new = RunDir(work.path / "carried")
    atomic_file.make_directory(new.path)
    replay.copy(work, work.checkpoint, new)
    new.save(newer.tensors, newer.meta)
    return Candidate("", acting, loop=loop, plane=plane), new


def _why_not(base: Checkpoint, acting: Checkpoint, newer: Checkpoint, body: str) -> str:
    if any(body not in brain.meta.get("bodies", {}) for brain in (base, acting, newer)):
        return "a brain does not know it"
    tables = _tables(base, body)
    weights = {key for key in base.tensors if key.startswith(("layers.", "embedding", "norm_f"))}
    if not all(_is_equal(base, acting, key) for key in weights):
        return "the brain that acts has other layers than the one that was trained on"
    codecs = [brain.meta["bodies"][body]["codec"] for brain in (base, acting, newer)]
    if codecs[1:] != codecs[:-1] or any(
            key not in newer.tensors or len(newer.tensors[key]) != len(base.tensors[key])
            for key in tables):
        return "its numbers or actions are others"
    widths = [from_dict(brain.meta["profile"]).model.d_model for brain in (base, newer)]
    return "the newer brain is narrower" if widths[1] < widths[0] else ""


def _tables(brain: Checkpoint, body: str) -> list[str]:
    return [f"{BODIES}{body}.{table}" for table in ("input", "control", "action", "world")
            if f"{BODIES}{body}.{table}" in brain.tensors]


def _is_equal(base: Checkpoint, acting: Checkpoint, key: str) -> bool:
    return key in acting.tensors and np.array_equal(base.tensors[key], acting.tensors[key])
