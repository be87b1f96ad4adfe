"""Text from files, brains and servers, made safe for a terminal."""
import os
import re
import textwrap
from collections.abc import Iterator
from typing import TextIO

# Control characters but for newline and tab, those that reverse or break lines, and surrogates.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
                    "\ud800-\udfff]")
MAX_MESSAGE_CHARS = 1000
DEFAULT_COLUMNS = 80          # of a terminal that does not tell
FIRST_COLUMN = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")   # of a row of a table
NO_BREAK = "\N{NO-BREAK SPACE}"


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


def unbroken(text: str) -> str:
    """A part of a text that `fitted` leaves in one line: a command, so that it can be pasted."""
    return text.replace(" ", NO_BREAK)


def fitted(text: str, out: TextIO) -> str:
    """As it is printed there: in a terminal no line is longer than that, if its words are not, as
    paths may be. Elsewhere, where a program may read, every line stays."""
    columns = columns_of(out)
    lines = text.split("\n")
    if columns:
        lines = [part for line in lines for part in _broken(line, columns)]
    return "\n".join(lines).replace(NO_BREAK, " ")


def columns_of(out: TextIO) -> int:
    """Of a terminal; 0: it is none."""
    try:
        columns = os.get_terminal_size(out.fileno()).columns
    except (OSError, ValueError):
        return 0
    return columns or DEFAULT_COLUMNS


def _broken(line: str, columns: int) -> Iterator[str]:
    """What follows the first line begins below the second column of a table, or a little to the
    right."""
    if len(line) <= columns:
        yield line
        return
    column, begin = FIRST_COLUMN.match(line), len(line) - len(line.lstrip())
    indent = column.end() if column and 2 * column.end() <= columns else begin + 2
    yield from textwrap.wrap(line[begin:], columns, initial_indent=line[:begin],
                             subsequent_indent=" " * indent, expand_tabs=False,
                             replace_whitespace=False, break_long_words=False,
                             break_on_hyphens=False)


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
