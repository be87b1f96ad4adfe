"""Names of what a checkpoint has of bodies."""
import re

TABLE = re.compile(r"(?:[mv]\.)?bodies\.(.+)\.[^.]+", re.DOTALL)   # m, v: its moments
ROWS = re.compile(r"play\.(.+)\.[^.]+", re.DOTALL)


def row_name(play: str, part: object) -> str:
    return f"play.{play}.{part}"


def is_moment(key: str) -> bool:
    """Whether a tensor is of a play's own optimizer."""
    return bool(play_of(key)) and key.rpartition(".")[2] in ("m", "v", "state")


def body_of(key: str) -> str:
    """The body whose table, or moment of one, a tensor is; empty if it is none."""
    match = TABLE.fullmatch(key)
    return match[1] if match else ""


def play_of(key: str) -> str:
    """The play (a body in training or a directory of episodes) whose rows a tensor has; empty if it
    has none."""
    match = ROWS.fullmatch(key)
    return match[1] if match else ""
