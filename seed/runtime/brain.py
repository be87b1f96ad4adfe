"""Runs an exported brain. A robot needs only this folder, numpy, and ai-edge-litert or
tflite-runtime (Python 3.11 and numpy below 2).

    brain = Brain("brain.tflite")
    brain.reset()
    logits = brain.step(65)              # (256,) float32 after one byte
    print(brain.generate("12+30="))
    brain.answer("12+30=", min_confidence=0.8)   # text None, if it is less sure

    brain.record("recorded")             # for seed train --data and seed adapt --data
    brain.begin()                        # an episode of the body that it was trained in
    action = brain.act(observation)
    action = brain.act(observation, reward, explore=1)     # not always the likeliest
    action, nats = brain.act(observation, reward, surprise=True)
    brain.end(observation, reward, is_terminal=True)
    brain.save_state("brain.state")      # and load_state after the robot has booted again
"""
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import state_file
from .acting import (BodyCodec, choice_rows, hidden_width, input_rows, output_columns,
                     world_columns)
from .answer import Answer, drawn
from .arguments import (MAX_COUNT, Draws, checked_confidence, checked_temperature, encoded,
                        in_one_thread, integer)
from .escape import as_text
from .rate import TickTimes, TooSlow, loop_of, time_brain
from .recording import Recorder, checked_reward
from .sealed_file import BrainError, describe, name_of, read
from .selftest import SelfTest, run_selftest
from .structure import check_structure
from .tflite import check_version, find_interpreter, without_notes

MAX_TIMED_STEPS = 10_000            # that latency_us looks back on
MAX_THREADS = 64
GENERATE = 5                        # Stream.GENERATE of seed/rng.py: the trainer draws the same


class Brain:
    """A brain with its state, for one thread; `threads`: of one step, more than 1 is not faster.

    Threads that call `generate` or `answer` wait for each other, as these begin anew. `reset`,
    `step` and `prefill` share one state: they raise BrainError while another thread uses this
    Brain. Make one Brain for each thread.

    Raises BrainError for a file that cannot be read, is damaged, is no brain, or is for another or
    a newer runtime; and for every argument that is wrong in type or range.

    Attributes: `name` of the file; `description`, its metadata; `runtime` that runs it; `loop`,
    with rate_hz and max_tick_ms, empty if it is for none; `bodies` by name, each with `actions` and
    the counts `absent` and `clipped` of an episode; `body` that acts; `control_logits` of the last
    act; `step_times_s`.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        threads = integer("threads", threads, 1, MAX_THREADS)
        name, data = name_of(path), read(path)
        self.name, self.description = name, describe(data, name)
        interpreter_class, self.runtime = find_interpreter()
        if self.runtime not in self.description["runtimes"]:
            raise BrainError(f"{name} is for {' or '.join(self.description['runtimes'])}, this is "
                             f"{self.runtime}: export with --target portable")
        min_version = self.description["runtimes"][self.runtime]
        check_version(self.runtime, min_version, name)
        try:
            check_structure(data, self.description)
            with without_notes():
                self.interpreter = interpreter_class(model_content=data, num_threads=threads)
                self.interpreter.allocate_tensors()
        except Exception as error:   # of any kind: any byte may be wrong
            reason = " ".join(str(error).split()) if isinstance(
                error, (RuntimeError, ValueError)) else "its structure is damaged"
            raise BrainError(f"{name} cannot be run: {reason:.300}; export it again, or use "
                             f"{self.runtime} {min_version} or newer") from None
        self._lock = threading.RLock()   # held in every call that reads or changes the state
        self.vocabulary = self.description["vocabulary"]
        self.loop = loop_of(self.description)   # rate_hz, max_tick_ms
        self.step_times_s: deque[float] = deque(maxlen=MAX_TIMED_STEPS)
        tensors = {tensor["name"]: tensor["index"] for tensor in (
            *self.interpreter.get_input_details(), *self.interpreter.get_output_details())}
        self._token, self._logits = tensors["token"], tensors["logits"]
        states = self.description["states"] if self.description["explicit_state"] else {}
        self._states = {key: (tensors[key], tensors[f"{key}_out"]) for key in states}
        self._initial = {key: np.full(state["shape"], state["start"], np.float32)
                         for key, state in states.items()}
        self.bodies: dict[str, BodyCodec] = {}
        self._choices, self._world = dict[str, slice](), dict[str, slice]()   # parts of predict's
        self._hidden: np.ndarray | None = None   # of the last tick: it predicts the next
        self.control_logits = np.zeros(0, np.float32)
        self.recorders: dict[str, Recorder] = {}   # of bodies that are recorded
        self._draws = Draws()
        if self.description["bodies"]:
            self._prepare_bodies(tensors)
        self.reset()

    def _prepare_bodies(self, tensors: dict[str, int]) -> None:
        """One input and one output hold all bodies, one after the other."""
        self._present, self._weights, self._control = (
            tensors[key] for key in ("present", "weights", "control"))
        bodies = self.description["bodies"]
        self._hidden_tensor = tensors["hidden"] if hidden_width(bodies) else None
        all_codecs = [body["codec"] for body in bodies.values()]
        self._all_weights, self._all_choices = (
            np.zeros((1, 1, 1, sum(map(rows_fn, all_codecs))), np.float32)
            for rows_fn in (input_rows, choice_rows))
        ends = dict.fromkeys((input_rows, output_columns, choice_rows, world_columns), 0)
        for key, body in bodies.items():
            parts = []
            for count_fn, start in ends.items():
                ends[count_fn] = start + count_fn(body["codec"])
                parts.append(slice(start, ends[count_fn]))
            weights, columns, self._choices[key], self._world[key] = parts
            self.bodies[key] = BodyCodec(body["codec"], body["returns"],
                                         self._all_weights.reshape(-1)[weights], columns)
        self._no_tick, self._yes, self._no = (
            np.zeros_like(self._all_weights), *(np.full((1, 1, 1, 1), x, np.float32)
                                                for x in (1, 0)))
        self.interpreter.set_tensor(self._token, np.zeros(1, np.int32))   # until there is a byte
        self.body = next(iter(self.bodies))   # that acts

    @in_one_thread
    def reset(self) -> None:
        """Back to the state before the first byte."""
        self._hidden = None
        if not self.description["explicit_state"]:
            self.interpreter.get_signature_runner("reset")(unused=np.zeros(1, np.float32))
        for key, (state_in, _) in self._states.items():
            self.interpreter.set_tensor(state_in, self._initial[key])

    @in_one_thread
    def step(self, byte: int) -> np.ndarray:
        """Logits (v,) float32 after a byte. Raises BrainError unless 0 <= byte < 256."""
        byte = integer("byte", byte, 0, 255)
        started = time.perf_counter()
        self.interpreter.set_tensor(self._token, np.array([byte], np.int32))
        if self.bodies:
            self.interpreter.set_tensor(self._present, self._yes)
            self.interpreter.set_tensor(self._weights, self._no_tick)
        self._invoke()
        self.step_times_s.append(time.perf_counter() - started)
        return self.interpreter.get_tensor(self._logits)[0]

    def _invoke(self) -> None:
        """Runs the step, and carries explicit states on."""
        self.interpreter.invoke()
        for state_in, state_out in self._states.values():
            self.interpreter.set_tensor(state_in, self.interpreter.get_tensor(state_out))

    @in_one_thread
    def prefill(self, prompt: bytes) -> np.ndarray:
        """Logits (v,) after a prompt. Raises BrainError if it is empty."""
        if not isinstance(prompt, (bytes, bytearray)):
            raise BrainError(f"the prompt is {type(prompt).__name__}: give bytes")
        if not prompt:
            raise BrainError("the prompt is empty: give at least one byte")
        start, t = 0, self.description["prefill"]
        while t and len(prompt) - start >= t:
            logits = self._prefill_chunk(np.array(list(prompt[start:start + t]), np.int32))
            start += t
        for byte in prompt[start:]:
            logits = self.step(byte)
        return logits

    def _prefill_chunk(self, tokens: np.ndarray) -> np.ndarray:
        """Logits (v,) after tokens (t,), t as exported, in one call."""
        run = self.interpreter.get_signature_runner(f"prefill_{tokens.size}")
        states = {key: self.interpreter.get_tensor(state_in)
                  for key, (state_in, _) in self._states.items()}
        outputs = run(tokens=tokens, **states)
        for key, (state_in, _) in self._states.items():
            self.interpreter.set_tensor(state_in, outputs[f"{key}_out"])
        return outputs["logits"][0]

    @in_one_thread
    def begin(self, body: str | None = None, keep_state: bool = False) -> None:
        """An episode of a body begins, with a fresh state, or with `keep_state` with what the brain
        remembers of this body. Raises BrainError if it has no such body; without a name, if it has
        not just one."""
        self.body, self._hidden, self.control_logits = self._named(body), None, np.zeros(0, "f4")
        self._cut()
        self._all_weights.fill(0)
        self.bodies[self.body].begin()
        if not keep_state:
            self.reset()

    def _named(self, body: str | None) -> str:
        if body is None and len(self.bodies) == 1:
            return self.body
        if not isinstance(body, str) or body not in self.bodies:
            raise BrainError(f"{self.name} has no body {body!r:.60}: name one of "
                             f"{', '.join(self.bodies) or 'a brain that was trained with --body'}")
        return body

    def _cut(self) -> None:
        """What is recorded is no longer one episode."""
        for recorder in self.recorders.values():
            recorder.begin()

    @in_one_thread
    def record(self, folder: str | os.PathLike | None, body: str | None = None) -> None:
        """Writes what a body sees and does to a directory, as `seed play --record` does; None: no
        more, and what was is on the disk. The body has to be named if there are several."""
        body = self._named(body)
        if body in self.recorders:
            self.recorders.pop(body).close()
        if folder is not None:
            fields = self.description["bodies"][body]
            self.recorders[body] = Recorder(folder, {
                "body": body, "codec": fields["codec"], "rate_hz": fields.get("rate_hz"),
                "recorded_by": f"act, brain {self.description['blake2b'][:16]}"})

    @in_one_thread
    def act(self, observation: Any, reward: Any = 0.0, *, surprise: bool = False,
            explore: Any = None) -> Any:
        """The action after one more observation, as the body takes it; with `surprise` a pair of it
        and how unexpected the observation was after the tick before, in nats a channel, NaN at an
        episode's first tick. `reward`: what followed the action before, which is recorded. With
        `explore`, a NumPy Generator or the seed of one, the action is drawn by its probability; the
        draws of a seed continue from tick to tick. Raises BrainError unless the observation has as
        many numbers as the body's, or if the brain has not learned to predict them."""
        started = time.perf_counter()
        if not self.bodies:
            raise BrainError(f"{self.name} has no body: train one with --body, and export it")
        if surprise and self._hidden_tensor is None:
            raise BrainError(f"{self.name} cannot tell surprise: it was trained with "
                             f"body.world_weight=0; train it with 1, and export it again")
        codec, interpreter = self.bodies[self.body], self.interpreter
        recorder = self.recorders.get(self.body)
        reward = checked_reward(reward) if recorder else 0.0
        rng = None if explore is None else self._draws.of(explore)
        logits = self.predicted(codec) if surprise else None
        try:
            codec.read(observation)
        except ValueError as error:
            raise BrainError(f"the observation of {self.body} {error}") from None
        interpreter.set_tensor(self._present, self._no)
        interpreter.set_tensor(self._weights, self._all_weights)
        self._invoke()
        self.control_logits = interpreter.get_tensor(self._control)[0, codec.columns]
        if self._hidden_tensor is not None:
            self._hidden = interpreter.get_tensor(self._hidden_tensor)
        action = codec.choose(self.control_logits, rng)
        if recorder:
            recorder.add(codec.numbers, action if type(action) is int else action.ravel().tolist(),
                         reward)
        self.step_times_s.append(time.perf_counter() - started)
        if not surprise:
            return action
        return action, math.nan if logits is None else codec.surprise(logits)

    @in_one_thread
    def end(self, observation: Any, reward: Any = 0.0, is_terminal: bool = False) -> None:
        """Records what is seen at an episode's end, with the reward of its last action;
        `is_terminal`: the body ended it, not the clock. Raises BrainError as `act` does."""
        if self.recorders and (recorder := self.recorders.get(self.body)):
            recorder.end(observation, reward, is_terminal)

    def predicted(self, codec: BodyCodec) -> np.ndarray | None:
        """Logits of the observation after the last act's; None where none was before it."""
        if self._hidden is None:
            return None
        self._all_choices.fill(0)
        self._all_choices[0, 0, 0, self._choices[self.body]] = codec.chosen()
        run = self.interpreter.get_signature_runner("predict")
        world = run(hidden=self._hidden, choices=self._all_choices)["world"]
        return world[0, self._world[self.body]]

    @in_one_thread
    def save_state(self, path: str | os.PathLike) -> None:
        """Writes what a brain needs to continue with the same bits after the robot has booted
        again: whole or not at all. Raises BrainError."""
        if self.description["explicit_state"]:
            states = {key: self.interpreter.get_tensor(state_in)
                      for key, (state_in, _) in self._states.items()}
        elif self.bodies:
            states = self.interpreter.get_signature_runner("save")(unused=np.zeros(1, np.float32))
        else:
            raise BrainError(f"{self.name} cannot save its state: export it with --explicit-state")
        fields = {"brain": self.description["blake2b"], "control": self.control_logits.tolist(),
                  "hidden": None if self._hidden is None else self._hidden.reshape(-1).tolist()}
        if self.bodies:
            fields |= {"body": self.body, **self.bodies[self.body].state()}
        state_file.write(path, fields, [states[key] for key in self.description["states"]])

    @in_one_thread
    def load_state(self, path: str | os.PathLike) -> None:
        """Continues where `save_state` was called. Raises BrainError, and changes nothing, unless
        the file is whole and of this brain."""
        states = self.description["states"]
        fields, arrays = state_file.load(path, self.description["blake2b"],
                                         [state["shape"] for state in states.values()])
        try:
            control, hidden = np.array(fields["control"], np.float32), fields["hidden"]
            if hidden is not None:
                width = hidden_width(self.description["bodies"])
                hidden = np.array(hidden, np.float32).reshape(1, 1, 1, width)
            if self.bodies:
                codec = self.bodies[fields["body"]]
                codec.load(fields, control.shape, hidden is not None)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise BrainError(f"{state_file.name_of(path)} has wrong fields: begin anew") from None
        self._cut()
        if self.bodies:
            self._all_weights.fill(0)
            self.body = fields["body"]
        self._hidden, self.control_logits = hidden, control
        if self._states:
            for (state_in, _), array in zip(self._states.values(), arrays):
                self.interpreter.set_tensor(state_in, array)
        elif self.bodies:
            self.interpreter.get_signature_runner("load")(unused=np.zeros(1, np.float32),
                                                          **dict(zip(states, arrays)))

    @property
    def value(self) -> float:
        """The discounted sum of rewards that the brain expected at the last act."""
        if not self.bodies or not self.control_logits.size:
            raise BrainError("no observation has been acted on yet: call act first")
        return self.bodies[self.body].value(self.control_logits)

    def _drawn(self, prompt: bytes, max_bytes: int, stop: int, temperature: float,
               seed: int) -> Iterator[tuple[int, float]]:
        """As `drawn`, after a prompt. Raises BrainError."""
        max_bytes = integer("max_bytes", max_bytes, 0, MAX_COUNT)
        temperature = checked_temperature(temperature)
        rng = np.random.default_rng((integer("seed", seed, 0, MAX_COUNT), GENERATE, 0))

        def checked(logits: np.ndarray) -> np.ndarray:
            if temperature and not np.isfinite(logits).all():
                raise BrainError(f"{self.name} gives logits that are not finite: export it again")
            return logits
        return drawn(checked(self.prefill(prompt)), lambda byte: checked(self.step(byte)),
                     max_bytes, stop, temperature, rng)

    def generate_bytes(self, prompt: bytes, max_bytes: int = 128, stop: int | None = None,
                       temperature: float = 0.0, seed: int = 0) -> Iterator[int]:
        """Yields at most max_bytes bytes until `stop` (None: the end of an answer). Temperature 0
        takes the likeliest byte; above 0 the draws are the trainer's of the same seed."""
        stop = self.vocabulary["end"] if stop is None else integer("stop", stop, 0, 255)
        for byte, _ in self._drawn(prompt, max_bytes, stop, temperature, seed):
            if byte != stop:
                yield byte

    def generate(self, prompt: str, max_bytes: int = 128, stop: int | None = None,
                 temperature: float = 0.0, seed: int = 0) -> str:
        """Text until `stop` (None: the end of an answer), from a fresh state."""
        return self.answer(prompt, max_bytes, stop, temperature, seed).text or ""

    def answer(self, prompt: str, max_bytes: int = 128, stop: int | None = None,
               temperature: float = 0.0, seed: int = 0, min_confidence: float = 0.0) -> Answer:
        """As `generate`, with the confidence; the text is None if that is below min_confidence."""
        is_question = stop is None and self.description.get("plain_questions") is True
        data, min_confidence = encoded(prompt, is_question), checked_confidence(min_confidence)
        stop = self.vocabulary["end"] if stop is None else integer("stop", stop, 0, 255)
        with self._lock:
            self.reset()
            return Answer.of(self._drawn(data, max_bytes, stop, temperature, seed), stop,
                             lambda text: as_text(text, self.vocabulary["pad"]), min_confidence)

    @in_one_thread
    def time_ticks(self, clock: Callable[[], float] = time.perf_counter,
                   sleep_fn: Callable[[float], object] = time.sleep) -> TickTimes:
        """How long a tick takes here: an act in the body with the most inputs, or a step. The state
        is a fresh one afterwards. Raises BrainError if the file is for no loop."""
        return time_brain(self, clock, sleep_fn)

    def check_rate(self, clock: Callable[[], float] = time.perf_counter,
                   sleep_fn: Callable[[float], object] = time.sleep) -> TickTimes:
        """As `time_ticks`. Raises TooSlow, a BrainError, if this board is too slow for the file's
        loop."""
        times = self.time_ticks(clock, sleep_fn)
        if not times.is_kept:
            raise TooSlow(f"{self.name} is too slow here: {times.describe()}; export it with "
                          f"--int8, use a smaller one, or end other programs")
        return times

    @in_one_thread
    def selftest(self) -> SelfTest:
        """Whether this machine's arithmetic gives the logits with which the file was verified, in
        some milliseconds. An episode ends; the state is a fresh one afterwards. Raises BrainError
        if not, and if the file was not verified."""
        test = run_selftest(self)
        if self.bodies:
            self.begin(self.body)
        return test

    def latency_us(self) -> tuple[float, float]:
        """Median and 99th percentile of the last steps, in microseconds."""
        if not self.step_times_s:
            raise BrainError("no step has been timed yet: call step first")
        p50, p99 = np.percentile(self.step_times_s, [50, 99])
        return float(p50 * 1e6), float(p99 * 1e6)
