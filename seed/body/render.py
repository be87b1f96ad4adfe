"""Shows a body while it acts: what its `render` returns as text, a tick at a time."""
import math
import time
from collections.abc import Callable
from typing import Any

from seed.body.wrapper import Step, Wrapper
from seed.errors import BodyError, ConfigError, SeedError

BAR_CHARS = 10   # to each side of the middle


class Screen:
    """Gives text to `show_fn` no faster than the body acts, if its rate is known."""

    def __init__(self, show_fn: Callable[[str], object], rate_hz: float | None = None,
                 clock: Callable[[], float] = time.monotonic,
                 sleep_fn: Callable[[float], object] = time.sleep):
        self._show_fn, self._clock, self._sleep_fn = show_fn, clock, sleep_fn
        self._tick_s = 1 / rate_hz if rate_hz else 0.0
        self._next_s = -math.inf

    def show(self, text: str | None) -> None:
        """None: the body shows itself."""
        now_s = self._clock()
        if now_s < self._next_s:
            self._sleep_fn(self._next_s - now_s)
        self._next_s = max(now_s, self._next_s) + self._tick_s
        if text is not None:
            self._show_fn(text)


class Rendered(Wrapper):
    """Shows each tick. Raises ConfigError for a body that cannot be shown."""

    def __init__(self, body: Any, name: str, screen: Screen):
        super().__init__(body)
        self._name, self._screen = name, screen
        if not hasattr(body, "render"):
            raise ConfigError(f"{name} cannot be shown: give its class a method render that "
                              f"returns text, or leave out --render")

    def after(self, action: Any, step: Step) -> Step:
        try:
            text = self.body.render()
        except SeedError:
            raise
        except Exception as error:
            raise BodyError(f"{self._name}: render raises {type(error).__name__}: "
                            f"{' '.join(str(error).split())[:300]}") from None
        self._screen.show(text)
        return step


def bar(value: float, bound: float) -> str:
    """A number between -bound and bound as a bar from the middle of a line."""
    n = round(BAR_CHARS * min(max(value / bound, -1.0), 1.0))
    left, right = "#" * max(-n, 0), "#" * max(n, 0)
    return f"[{left:>{BAR_CHARS}}|{right:<{BAR_CHARS}}]"
