"""Names of user tasks and bodies: files, with a class if they are Python, and what is read of
`--task` and `--body`.

A name is kept as an absolute path, so that it means the same file wherever a command is started.
"""
import filecmp
import os
from collections.abc import Iterable
from pathlib import Path

ENDINGS = (".jsonl", ".txt", ".py")
KINDS = "items.jsonl, notes.txt or path.py:ClassName"
FIXES = {   # of files that look like a task
    ".csv": 'write each row as a line {"prompt": "...", "answer": "..."} of a .jsonl file',
    ".json": 'write one {"prompt": "...", "answer": "..."} in each line of a .jsonl file',
    ".gz": "unpack it", ".zip": "unpack it", ".xz": "unpack it", ".bz2": "unpack it",
    ".md": "rename it to .txt"}


def is_class_name(name: str) -> bool:
    """Whether a name is that of a class in a file."""
    file, colon, class_name = name.rpartition(":")
    return bool(colon) and file.lower().endswith(".py") and os.sep not in class_name


def is_user_task(name: str) -> bool:
    """Whether a task's name is that of a file."""
    return is_class_name(name) or name.lower().endswith(ENDINGS)


def file_of(name: str) -> str:
    """The file of a user task."""
    return name.rpartition(":")[0] if is_class_name(name) else name


def absolute(name: str, folder: Path | None = None) -> str:
    """The name of a user task with an absolute path; other names as they are.

    A relative one is that of a file in `folder`, if it is there, or in the working directory.
    """
    if not is_user_task(name) or "\0" in name:
        return name
    file, rest = file_of(name), name[len(file_of(name)):]
    path = os.path.expanduser(file)
    if folder is not None and os.path.exists(folder / path):
        path = str(folder / path)
    return os.path.abspath(path) + rest


def absolute_directory(name: str, folder: Path | None = None) -> str:
    """The name of a directory of episodes, or of a report, with an absolute path, as `absolute`."""
    path = os.path.expanduser(name)
    if folder is not None and os.path.exists(folder / path):
        path = str(folder / path)
    return os.path.abspath(path)


def with_absolute_tasks(data: dict, folder: Path | None = None) -> dict:
    """A profile's tables, in which the names of user tasks, bodies, episodes and of a report mean
    the same files from anywhere."""
    data = dict(data)
    table = data.get("governor")
    if isinstance(table, dict) and isinstance(path := table.get("report_file"), str) and path:
        data["governor"] = {**table, "report_file": absolute_directory(path, folder)}
    for key in ("curriculum", "selfplay", "teacher"):
        table = data.get(key)
        if isinstance(table, dict) and isinstance(tasks := table.get("tasks"), dict):
            data[key] = {**table, "tasks": {absolute(name, folder): weight
                                            for name, weight in tasks.items()}}
    body = data.get("body")
    if isinstance(body, dict) and isinstance(rounds := body.get("rounds"), dict):
        data["body"] = {**body, "rounds": {
            absolute(name, folder) if is_class_name(name) else name: n
            for name, n in rounds.items()}}
    body = data.get("body")
    if isinstance(body, dict) and isinstance(directories := body.get("data"), dict):
        data["body"] = {**body, "data": {absolute_directory(name, folder): n
                                         for name, n in directories.items()}}
    return data


def with_named_bodies(rounds: dict[str, int], names: Iterable[str]) -> dict[str, int]:
    """The rounds of bodies that a brain has, the classes among `names` where their files are now;
    and a round of each of `names` that is new."""
    files = {short(name): absolute(name) for name in names if is_class_name(name)}
    rounds = {files.get(short(name), name): n for name, n in rounds.items()}
    named = [files.get(short(name), name) for name in names]
    return {**rounds, **{name: 1 for name in named if name not in rounds}}


def without_moved(tasks: dict[str, float], name: str, keep_weight: bool) -> dict[str, float]:
    """The tasks with `name` in the place of one whose file has its name and is gone."""
    gone = [old for old in moved(set(tasks) - {name}, [name])
            if os.path.isfile(file_of(name)) and not os.path.exists(file_of(old))]
    if not gone:
        return tasks
    weight = tasks[gone[0] if keep_weight else name]
    return {name if key == gone[0] else key: weight if key == gone[0] else value
            for key, value in tasks.items() if key != name}


def split_weight(text: str) -> tuple[str, str]:
    """NAME and WEIGHT of NAME=WEIGHT; an empty weight if there is none. A name may contain `=`."""
    name, _, weight = text.rpartition("=")
    if name and _is_number(weight):
        return name, weight
    name, _, weight = text.partition("=")
    return (text, "") if is_user_task(text) else (name, weight)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def wrong_kind(name: str) -> str:
    """The end of a message about a name that is that of a file, but of no task; else empty."""
    if os.sep not in name and "." not in name:
        return ""
    fix = FIXES.get(Path(name).suffix.lower())
    return f" is no file of a task: {f'{fix}, or ' if fix else ''}use {KINDS}"


def short(name: str) -> str:
    """The name of a user task without its folder: the same wherever its file is."""
    return os.path.basename(file_of(name)) + name[len(file_of(name)):]


def moved(old_tasks: Iterable[str], tasks: Iterable[str]) -> dict[str, str]:
    """Old names of user tasks and new ones, where a file was moved: it has the name of one that is
    gone, or of one with the same contents."""
    old_tasks, tasks = set(old_tasks), set(tasks)
    return {old: new for old in old_tasks - tasks for new in tasks - old_tasks
            if is_user_task(old) and is_user_task(new) and short(old) == short(new)
            and _is_copy(file_of(old), file_of(new))}


def _is_copy(old: str, new: str) -> bool:
    try:
        return not os.path.isfile(old) or filecmp.cmp(old, new, shallow=False)
    except (OSError, ValueError):
        return True
