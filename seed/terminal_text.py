"""Text from files, brains and servers, made safe for a terminal."""
import re

# Control characters but for newline and tab, those that reverse or break lines, and surrogates.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
                    "\ud800-\udfff]")
MAX_MESSAGE_CHARS = 1000


def escaped(text: str) -> str:
    """The text with every character that could steer a terminal written as its number."""
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(message: str) -> str:
    """A message in one line of bounded length."""
    text = escaped(" ".join(message.splitlines()))
    if len(text) <= MAX_MESSAGE_CHARS:
        return text
    half = MAX_MESSAGE_CHARS // 2
    return f"{text[:half]} ... {text[-half:]}"


def is_text(text: str, is_strict: bool) -> bool:
    """Whether it is Unicode; if not `is_strict`, also with bytes of a file's name that are not."""
    try:
        text.encode("utf-8", "strict" if is_strict else "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def duration(seconds: float) -> str:
    """As h:mm:ss, or m:ss below an hour."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
