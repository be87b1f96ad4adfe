"""The house rules that a program can check: sizes of files and functions, names, words."""
import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SEED = ROOT / "seed"
PYTHON = sorted(SEED.rglob("*.py"))
C = sorted([*SEED.rglob("*.[ch]"), *(ROOT / "examples").rglob("*.[ch]")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bin").iterdir()])
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_COLUMNS = 400, 60, 100
MAX_TRAINING_FILES = 13
TOP = {".ci", ".gitignore", "CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "bin", "docs",
       "examples", "profiles", "pyproject.toml", "seed", "setup.cfg", "tests"}
# A name says what a thing is, never how it was obtained.
BANNED_NAMES = {"found", "own", "said", "told", "one", "other", "wanted", "kept", "asked",
                "lesson", "lessons", "exam", "exams", "school", "desk", "rung", "rungs"}
# Words of the old private language, which have a term of the field.
BANNED_WORDS = re.compile(
    r"\b(lessons?|examin\w+|exams?|school|desk|ascen[dt]\w*|carv\w+|refit\w*|rungs?"
    r"|by heart|goes on|ways? back|at a loss|comes? up|learnt on|own_tasks?|own_child"
    r"|reaching|want of memory|intuition)\b", re.IGNORECASE)
ALLOWED = re.compile(r"grade school")   # what the task set is called


def names_of(tree: ast.AST) -> set[str]:
    """Variables, parameters, functions and classes that a file defines."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def in_seed(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*PYTHON, *C, *TESTS, *EXAMPLES], ids=in_seed)
def test_a_file_can_be_held_in_the_head(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_FILE_LINES
    assert not [i for i, line in enumerate(lines, 1) if len(line) > MAX_COLUMNS]


@pytest.mark.parametrize("path", PYTHON, ids=in_seed)
def test_functions_are_short_and_names_say_what_things_are(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    long = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
            and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES]
    assert not long
    assert not names_of(tree) & BANNED_NAMES


@pytest.mark.parametrize("path", [*PYTHON, *C, *TESTS, *EXAMPLES, *PAGES], ids=in_seed)
def test_the_text_uses_the_words_of_the_field(path):
    text = ALLOWED.sub("", path.read_text(encoding="utf-8"))
    if path.name != "test_house.py":
        assert not sorted({match[0] for match in BANNED_WORDS.finditer(text)})


def test_nothing_else_is_tracked_at_the_top():
    """A copy without a history has only the second half."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    assert {path.partition("/")[0] for path in tracked.stdout.split("\0") if path} <= TOP
    assert all((ROOT / name).exists() for name in ("seed", "profiles", "bin", "tests", "setup.cfg"))


def test_no_module_or_folder_shares_a_name():
    names = [path.stem for path in PYTHON if path.stem != "__init__"]
    names += [path.name for path in SEED.rglob("*") if path.is_dir() and path.name[0] != "_"]
    assert not {name for name, count in Counter(names).items() if count > 1}


def test_training_is_one_subject():
    assert len(list((SEED / "training").glob("*.py"))) <= MAX_TRAINING_FILES


def test_no_test_imports_another_test_file():
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not re.search(r"(^|\.)test_\w+$", node.module or ""), in_seed(path)
