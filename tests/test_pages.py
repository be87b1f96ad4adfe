"""The pages are true: commands run as written, links and paths exist, results are quoted.

A page is run block by block in a folder that looks like the checkout and has its own runs/. A block
marked `sh long` or `python long` takes over a minute and runs with -m long. The text block behind
commands is their expected output: any number stands for any other, ... for lines left out.
"""
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pytest

from seed.__main__ import COMMANDS, make_parser
from seed.profile_file import load_profile, overridden
from seed.wavecore.compiler import find_compiler

ROOT = Path(__file__).parents[1]
README, CHANGELOG, LOG = ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "docs" / "LOG.md"
RESULTS, GLOSSARY = ROOT / "docs" / "results.md", ROOT / "docs" / "glossary.md"
DOCS = [ROOT / "docs" / f"{name}.md" for name in (
    "training", "metrics", "curriculum", "user_tasks", "practice", "own_robot", "body",
    "episodes", "learning", "live", "board", "robot", "operations", "resize", "export", "file",
    "sharing", "embedding", "model", "kernels", "images", "watching", "guarantees", "results",
    "LOG", "contributing", "glossary", "reference")]
DOCS += sorted((ROOT / "docs/reference").glob("*.md"))   # tests/test_reference_pages.py
PAGES = [README, *DOCS]
SCRIPTS = sorted((ROOT / "bin").glob("*.sh"))
MAX_README_LINES, MAX_PAGE_LINES, MAX_CHANGELOG_LINES, MAX_GLOSSARY_WORDS = 150, 150, 60, 30
MAX_COMMAND_S = 600
SUFFIXES = {"md", "jsonl", "toml", "service", "safetensors"}   # behind the dot of a file's name


class Block(NamedTuple):
    kind: str        # what stands behind the opening fence: sh, sh long, python, toml, text, c
    text: str
    heading: str     # the last one above it


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    parsed: list[Block] = []
    heading, kind, lines = "", None, []
    for line in text_of(page).splitlines():
        if line.startswith("```"):
            if kind is not None:
                parsed.append(Block(kind, "\n".join(lines), heading))
            kind, lines = (line[3:].strip(), []) if kind is None else (None, [])
        elif kind is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    assert kind is None, "a block has no end"
    return parsed


def prose(page: Path) -> str:
    """The page without its blocks."""
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def run(command: list[str], workspace: Path) -> str:
    """What it prints, the log lines last."""
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True,
                          timeout=MAX_COMMAND_S, env={**os.environ, "PYTHONPATH": str(workspace)})
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def run_shell(block: Block, workspace: Path) -> str:
    return run(["bash", "-euo", "pipefail", "-c", block.text], workspace)


def skeletons(text: str) -> list[str]:
    """Lines with # for each number, and single spaces."""
    return [re.sub(r"\s+", " ", re.sub(r"\d[\d.,:]*", "#", line)).strip()
            for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder with links to all of the checkout but runs/, after the README's first block."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name not in ("runs", ".git"):
            (folder / path.name).symlink_to(path)
    first = next(block for block in blocks(README) if block.kind == "sh")
    (folder / "first_output").write_text(run_shell(first, folder), encoding="utf-8")
    return folder


def run_page(page: Path, workspace: Path, kind: str) -> int:
    """Runs a page's blocks of that kind, sh or sh long, and Python's; the number of them."""
    count, output, heading = 0, "", None
    for i, block in enumerate(blocks(page)):
        if block.kind == kind:
            already = (page, i) == (README, first_shell_block())
            output = (text_of(workspace / "first_output") if already
                      else run_shell(block, workspace))
            count, heading = count + 1, block.heading
        elif block.kind == kind.replace("sh", "python"):
            run([sys.executable, "-c", block.text], workspace)
            count += 1
        elif block.kind == "text" and heading == block.heading and output:
            printed = skeletons(output)
            missing = [line for line in skeletons(block.text) if line not in (*printed, "...")]
            assert not missing, output
    return count


def first_shell_block() -> int:
    return [block.kind for block in blocks(README)].index("sh")


def pages_with(*kinds: str) -> list[Path]:
    return [page for page in PAGES if any(block.kind in kinds for block in blocks(page))]


@pytest.mark.parametrize("page", pages_with("sh", "python"), ids=name_of)
def test_commands_of_a_page_run_and_print_what_it_shows(workspace, page):
    assert run_page(page, workspace, "sh")


@pytest.mark.long
@pytest.mark.parametrize("page", pages_with("sh long", "python long"), ids=name_of)
def test_long_commands_of_a_page_run(workspace, page):
    assert run_page(page, workspace, "sh long")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_of_a_kind_that_is_tested(page):
    assert {block.kind for block in blocks(page)} <= {
        "sh", "sh long", "python", "python long", "toml", "text", "c"}


@pytest.mark.parametrize("page", pages_with("c"), ids=name_of)
def test_c_of_a_page_compiles(page):
    for block in blocks(page):
        if block.kind == "c":
            subprocess.run([find_compiler(), "-x", "c", "-", "-fsyntax-only", "-Wall", "-Wextra",
                            "-Werror", f"-I{ROOT / 'examples/c'}"], input=block.text, text=True,
                           check=True)


@pytest.mark.parametrize("page", pages_with("toml"), ids=name_of)
def test_toml_of_a_page_is_a_valid_part_of_a_profile(page):
    for block in blocks(page):
        if block.kind == "toml":
            base = load_profile("toy").to_dict()
            for table, values in tomllib.loads(block.text).items():
                base.setdefault(table, {}).update(values)
            overridden(base, [])


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=name_of)
def test_links_lead_to_pages_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.+)$", text_of(linked), re.MULTILINE) if anchor else []
        anchors = [re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings]
        assert not anchor or anchor in anchors, target


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG, *SCRIPTS], ids=name_of)
def test_paths_and_tests_that_a_page_or_script_names_exist(page):
    named = re.findall(r"(?<![\w./-])((?:seed|tests|bin|profiles|docs|examples)/[\w./-]*[\w/])"
                       r"(?:::(\w+))?", text_of(page))
    for path, test in named:
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in text_of(ROOT / path), f"{path}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_that_a_page_names_exist(page):
    tables = asdict(load_profile("toy"))
    for table, key in re.findall(r"(?<![\w/.])(\w+)\.([a-z]\w*)\b(?!\.)", text_of(page)):
        assert table not in tables or key in tables[table] or key in SUFFIXES, f"{table}.{key}"


def test_flags_that_pages_name_exist(capsys):
    known = "".join(text_of(path) for room in ("experiments", "learning", "live", "bench")
                    for path in (ROOT / "seed" / room).glob("*.py"))
    known += "".join(text_of(path) for path in (ROOT / "bin").iterdir() if path.is_file())
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            make_parser().parse_args([command, "--help"])
        known += capsys.readouterr().out
    for page in PAGES:
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", text_of(page)):
            assert re.search(rf"{flag}\b", known), f"{page}: {flag}"


def test_modules_that_pages_run_exist():
    for page in PAGES:
        for module in re.findall(r"python\s+-m\s+((?:seed|tests)(?:\.\w+)*)", text_of(page)):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_every_guarantee_names_a_test():
    rows = [line for line in text_of(ROOT / "docs" / "guarantees.md").splitlines()
            if line.startswith("| ") and not line.startswith("| claim")]
    assert len(rows) > 30
    assert not [row for row in rows if not re.search(r"`(tests/\w+.*\.py|bin/\w+.*\.sh)`", row)]


def test_the_section_on_attacks_names_every_file_that_has_some():
    page = text_of(ROOT / "docs/guarantees.md")
    section = page.partition("## Attacks\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", section))
    folder = ROOT / "tests/soak/attacks"
    marked = {name_of(path) for path in (ROOT / "tests").rglob("test_*.py")
              if path.parent == folder or "pytest.mark.attack\n" in text_of(path)}
    assert "bin/attacks.sh" in section and named == marked


def test_every_page_of_docs_is_checked_here():
    assert sorted(DOCS) == sorted((ROOT / "docs").rglob("*.md"))


def test_pages_are_short():
    assert len(text_of(README).splitlines()) <= MAX_README_LINES
    assert len(text_of(CHANGELOG).splitlines()) <= MAX_CHANGELOG_LINES
    for page in DOCS:
        assert page in (RESULTS, LOG) or len(text_of(page).splitlines()) <= MAX_PAGE_LINES, page


def test_the_changelog_is_by_release():
    headings = re.findall(r"^## (.+)$", text_of(CHANGELOG), re.MULTILINE)
    assert headings and all(re.fullmatch(r"Unreleased( \(\d+\.\d+\.\d+\))?|\d+\.\d+\.\d+.*", text)
                            for text in headings)


def test_the_glossary_is_short_and_has_no_word_twice():
    words = re.findall(r"^\| (?!word)([^|]+?) \|", text_of(GLOSSARY), re.MULTILINE)
    assert 20 <= len(words) <= MAX_GLOSSARY_WORDS
    assert len(set(words)) == len(words)


def test_figures_of_the_readme_are_quoted_from_the_results():
    table = next(block for block in blocks(README) if block.heading == "Results")
    assert table.text in text_of(RESULTS)


def test_other_pages_have_no_measured_figures():
    measured = re.compile(r"\d\d\.\d %|tokens/s|20\d\d-\d\d-\d\d|commit [0-9a-f]{7}")
    for page in DOCS:
        if page not in (RESULTS, LOG):
            assert not measured.search(re.sub(r"\(LOG\.md#[^)]*\)", "", prose(page))), page
