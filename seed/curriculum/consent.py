"""What a brain's own profile may not start by itself: a brain may come from anybody.

User tasks, bodies and a health report run code or open files, and a teacher's address is called.
Those that only a checkpoint names are used when the command line, or a profile that the user named,
names them again.
"""
import shlex
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

from seed.config import Profile, TeacherConfig
from seed.errors import ConfigError
from seed.task_names import absolute, is_class_name, is_user_task, moved, short


def check_named(profile: Profile, named: dict[str, Any]) -> Profile:
    """The profile of a brain that is trained on. `named`: tables that the user has named.

    Raises ConfigError for a user task, a body's class or a teacher's address that is not among
    them.
    """
    tasks, url = _unnamed(profile, *_tasks_and_url(named))
    if tasks:
        raise ConfigError(f"only the brain itself names the task {tasks[0]}: to let it run or read "
                          f"that file, say --task {tasks[0]}, or name the brain's --profile")
    for directory in profile.body.data:
        if directory not in named.get("body", {}).get("data", {}):
            raise ConfigError(f"only the brain itself names the episodes in {directory}: to let it "
                              f"read them, say --data {directory}")
    if url:
        raise ConfigError(f"only the brain itself names the teacher at {url}: to let it ask there, "
                          f"say --set teacher.url={url}; not to, say --set 'teacher.kind=\"\"'")
    key, report = _unnamed_report(profile, named)
    if report:
        raise ConfigError(f"only the brain itself names the health report {report}: to use it, say "
                          f"--set governor.{key}={shlex.quote(report)}; not to, say "
                          f"--set 'governor.{key}=\"\"'; or name the brain's --profile")
    bodies = _unnamed_bodies(profile.body.rounds, named.get("body", {}).get("rounds", {}))
    if bodies:
        raise ConfigError(f"only the brain itself names the body {bodies[0]}: to let that file "
                          f"run, say --body {bodies[0]}, or name the brain's --profile")
    return profile


def leave_out_unnamed(profile: Profile, named: dict[str, Any],
                      log: Callable[[str], object]) -> Profile:
    """The profile without what `check_named` refuses; logs what is left out."""
    named_files, named_url = _tasks_and_url(named)
    tasks, url = _unnamed(profile, named_files, named_url)
    if url:
        log(f"left out: the teacher at {url}, which only the brain itself names")
        profile = replace(profile, teacher=TeacherConfig())
    profile = without_unnamed_report(profile, named, log)
    directories = named.get("body", {}).get("data", {})
    profile = replace(profile, body=replace(profile.body, data={
        name: n for name, n in profile.body.data.items() if name in directories}))
    rounds = profile.body.rounds
    bodies = _unnamed_bodies(rounds, named.get("body", {}).get("rounds", {}))
    if bodies:
        log(_left_out("body", bodies))
        profile = replace(profile, body=replace(profile.body, rounds={
            name: n for name, n in rounds.items() if name not in bodies}))
    return without_tasks(profile, tasks, log)


def without_unnamed_tasks(profile: Profile, named: Collection[str], log: Callable[[str], object],
                          data: Collection[str] = ()) -> Profile:
    """The profile without user tasks that are not among `named` or `data`; logs what is left out.
    Raises ConfigError if one of `named` is no task of the profile."""
    names = moved(profile.curriculum.tasks, map(absolute, named))   # named where its file is now
    if names:
        profile = replace(profile, curriculum=replace(profile.curriculum, tasks={
            names.get(name, name): weight for name, weight in profile.curriculum.tasks.items()}))
    for name in named:
        if absolute(name) not in map(absolute, profile.curriculum.tasks):
            raise ConfigError(f"--task {name}: the brain was not trained on it; use one of its own "
                              f"tasks, or leave --task out")
    return without_tasks(profile, _unnamed(profile, {*named, *data}, "")[0], log)


def without_unnamed_report(profile: Profile, named: dict[str, Any],
                           log: Callable[[str], object]) -> Profile:
    """The profile without a health report that is not among those named, and without what waits for
    it; logs that."""
    governor = profile.governor
    if not _unnamed_report(profile, named)[1]:
        return profile
    log(f"left out: the health report {governor.report_command or governor.report_file}, which "
        f"only the brain itself names")
    return replace(profile, governor=governor.without_report())


def without_tasks(profile: Profile, names: Collection[str],
                  log: Callable[[str], object]) -> Profile:
    """The profile without these tasks, also where self-play and a teacher ask them."""
    if not names:
        return profile
    log(_left_out("task", names))

    def rest(tasks: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in tasks.items() if name not in names}
    return replace(
        profile,
        curriculum=replace(profile.curriculum, tasks=rest(profile.curriculum.tasks)),
        selfplay=replace(profile.selfplay, tasks=rest(profile.selfplay.tasks)),
        teacher=replace(profile.teacher, tasks=rest(profile.teacher.tasks)))


def named_bodies(known: Iterable[str], named: Iterable[str],
                 log: Callable[[str], object]) -> dict[str, str]:
    """Of the bodies that a brain knows, those that may be used, each with the name that opens it:
    a class is its file that the user names. Logs what is left out."""
    files = {short(name): absolute(name) for name in named if is_class_name(name)}
    bodies = {name: files.get(name, "") if is_class_name(name) else name for name in known}
    unnamed = [name for name, opened in bodies.items() if not opened]
    if unnamed:
        log(_left_out("body", unnamed))
    return {name: opened for name, opened in bodies.items() if opened}


def _left_out(flag: str, names: Collection[str]) -> str:
    them = "it" if len(names) == 1 else "them"
    use = f"let {them} run" if flag == "body" else f"let it run or read {them}"
    return f"left out: {', '.join(names)}, which only the brain itself names; use --{flag} to {use}"


def _unnamed_bodies(rounds: Iterable[str], named: Iterable[str]) -> list[str]:
    """Classes that are not among those named."""
    files = set(map(absolute, filter(is_class_name, named)))
    return [name for name in rounds if is_class_name(name) and absolute(name) not in files]


def _unnamed_report(profile: Profile, named: dict[str, Any]) -> tuple[str, str]:
    """The key and the value of a health report that is not among those named."""
    for key in ("report_file", "report_command"):
        value = getattr(profile.governor, key)
        if value and value != named.get("governor", {}).get(key):
            return key, value
    return "", ""


def _tasks_and_url(named: dict[str, Any]) -> tuple[Collection[str], str]:
    return (named.get("curriculum", {}).get("tasks", {}),
            named.get("teacher", {}).get("url", ""))


def _unnamed(profile: Profile, named: Collection[str], url: str) -> tuple[list[str], str]:
    """User tasks and a teacher's address of a profile that are not those named."""
    tasks = dict.fromkeys((*profile.curriculum.tasks, *profile.selfplay.tasks,
                           *profile.teacher.tasks))
    files = set(map(absolute, named))
    is_asked = profile.teacher.kind == "endpoint" and profile.teacher.url != url
    return ([name for name in tasks if is_user_task(name) and absolute(name) not in files],
            profile.teacher.url if is_asked else "")
