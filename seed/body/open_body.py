"""Bodies by name: a built-in one, gym:ID of Gymnasium if that is installed, or a class of the
user's; and a codec that is made for a body before it first learns."""
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from seed.body.body_interface import Body
from seed.body.cart_pole import CartPole
from seed.body.changes import RandomlyDelayed, changed
from seed.body.codec import Channel, Codec
from seed.body.pendulum import Pendulum
from seed.body.render import Rendered, Screen
from seed.body.rewards import rewarded
from seed.body.rover import Rover
from seed.body.spaces import BINS, action_values, has_spaces_of, observation_ranges
from seed.config import BodyConfig
from seed.body.user_body import Opener
from seed.body.wrapper import WrappedOpener
from seed.errors import BodyError, ConfigError
from seed.settings import nearest
from seed.task_names import is_class_name, short

BODIES: dict[str, Callable[[], Body]] = {"cartpole": CartPole, "pendulum": Pendulum, "rover": Rover}
GYM = "gym:"
MEASURED_TICKS = 2000   # of random play, for channels without a range
RANGE_FACTOR = 3.0      # of the largest number that was measured
KNOTS = 4


def body_name(name: str) -> str:
    """What a brain calls a body: a class of the user's without the folder of its file."""
    return short(name) if is_class_name(name) else name


def can_be_opened(name: str) -> bool:
    """Whether it is a name of that kind: a body that was only recorded has another."""
    return name in BODIES or name.startswith(GYM) or is_class_name(name)


def opener(name: str, config: BodyConfig = BodyConfig(),
           screen: Screen | None = None) -> Callable[[], Any]:
    """What makes one body of that name, with the reward of the profile; the body is shown on the
    screen. Raises ConfigError, and what it makes does if it cannot be shown."""
    open_fn = _opener(name, screen is not None)
    if screen and not name.startswith(GYM):
        shown = screen
        open_fn = WrappedOpener(open_fn, lambda body: Rendered(body, body_name(name), shown))
    if config.randomize:
        open_fn = changed(open_fn, RandomlyDelayed)
    return rewarded(body_name(name), open_fn, config)


def _opener(name: str, is_shown: bool) -> Callable[[], Any]:
    if name in BODIES:
        return BODIES[name]
    if name.startswith(GYM):
        if ":" in name.removeprefix(GYM):   # gymnasium would import the module before the colon
            raise ConfigError(f"body {name} names a module to import: write a class that makes it, "
                              f"and give file.py:Class")
        return lambda: _open_gym(name, is_shown)
    if is_class_name(name):
        return Opener(name)
    if name.lower().endswith(".py"):
        raise ConfigError(f"body {name}: name its class too, as in {Path(name).name}:ClassName")
    raise ConfigError(f"body {name} is unknown{nearest(name, BODIES)}; give {', '.join(BODIES)}, "
                      f"gym:ID or file.py:Class")


def opener_if_here(name: str, codec: Codec,
                   config: BodyConfig = BodyConfig()) -> Callable[[], Any] | None:
    """As `opener`, of a body that a brain has with this codec: None if it is not installed, or if
    only its name is the same."""
    try:
        open_fn = opener(name, config)
        is_here = has_spaces_of(codec, open_fn()) or is_class_name(name)   # which the user names
    except ConfigError:
        return None
    return open_fn if is_here else None


def opener_of_data(name: str, codec: Codec,
                   config: BodyConfig = BodyConfig()) -> Callable[[], Any] | None:
    """As `opener_if_here`, for a name that data of anybody's may have: None for a file."""
    return None if is_class_name(name) else opener_if_here(name, codec, config)


def _open_gym(name: str, is_shown: bool) -> Any:
    try:
        import gymnasium
    except ImportError:
        raise ConfigError(f"{name} needs gymnasium: pip install gymnasium") from None
    try:
        name_there = name.removeprefix(GYM)
        with warnings.catch_warnings(), _silent_mujoco(gymnasium.spec(name_there).entry_point):
            warnings.simplefilter("ignore")
            os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")   # it would print a greeting
            body = gymnasium.make(name_there, disable_env_checker=True,
                                  render_mode="human" if is_shown else None)
            if isinstance(body.observation_space, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple)):
                body = gymnasium.wrappers.FlattenObservation(body)   # all its numbers in a row
    except Exception as error:   # of its registry, of the libraries that a body needs
        raise ConfigError(f"{name}: {' '.join(str(error).split())[:300]}") from None
    if is_shown and body.render_mode != "human":
        raise ConfigError(f"{name} cannot be shown: it has no window; leave out --render")
    return body


@contextmanager
def _silent_mujoco(entry_point: Any) -> Iterator[None]:
    """MuJoCo would print, and write to a file in the present folder, that a file of Gymnasium's is
    old: for each row, and there is nothing that a user can do."""
    mujoco: Any = None
    if "mujoco" in str(entry_point):
        with suppress(ImportError):   # Gymnasium says what to install
            mujoco = import_module("mujoco")
    if not hasattr(mujoco, "set_mju_user_warning"):
        yield
        return
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def make_codec(name: str, open_fn: Callable[[], Any], seed: int, bins: int = BINS,
               knots: int = KNOTS) -> tuple[Codec, np.ndarray]:
    """A codec for a body, and the rewards that were seen: channels without a declared range get one
    from random play. Raises BodyError, ConfigError."""
    body = open_fn()
    try:
        ranges = observation_ranges(name, body.observation_space)
        actions, form, shape = action_values(name, body.action_space, bins)
    except (AttributeError, TypeError) as error:
        raise BodyError(f"{name}: {error}: a body has observation_space, action_space, reset and "
                        f"step") from None
    channels = [Channel(low, high, False, knots) if math.isfinite(low) else Channel(-1.0, 1.0)
                for low, high in ranges]
    codec = Codec(name, tuple(channels), tuple(map(tuple, actions)), form, tuple(shape))
    observations, rewards = _random_play(open_fn, codec, seed)
    largest = np.abs(observations).max(0)
    for i, (low, _) in enumerate(ranges):
        if not math.isfinite(low):
            bound = RANGE_FACTOR * float(largest[i]) or 1.0
            channels[i] = Channel(-bound, bound, True, knots)
    return Codec(name, tuple(channels), codec.actions, form, codec.shape), rewards


def _random_play(open_fn: Callable[[], Any], codec: Codec,
                 seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations (n, channels) and rewards (n,) of choices at random."""
    from seed.body.world import World
    world, rng = World(open_fn, codec, 1, seed), random.Random(seed)
    observations, rewards = [world.observations[0].copy()], []
    for _ in range(MEASURED_TICKS):
        choices = np.array([[int(rng.random() * len(part)) for part in codec.actions]])
        rewards.append(world.step(choices).rewards[0])
        observations.append(world.observations[0].copy())
    return np.array(observations), np.array(rewards)
