"""Writes docs/reference.md and docs/reference/: the classes and functions that users import, with
their signatures and docstrings, read from the sources without running them.

    .venv/bin/python bin/reference.py [FOLDER]

FOLDER stands for docs/. The same sources give the same bytes.
"""
import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 110
# Page, its title, what it begins with, and by module the names that users import.
PAGES = (
    ("runtime", "On a robot", "Needs a copy of the folder `seed/runtime`, numpy and a TFLite "
     "runtime ([export](../export.md#on-the-robot)); there the package is `runtime`, here "
     "`seed.runtime`.",
     {"seed.runtime": "Brain Answer Recorder TickTimes SelfTest BrainError TooSlow choose describe "
                      "installed_runtime",
      "seed.runtime.state_file": "write_whole"}),
    ("classes", "Bodies and tasks of your own", "What a class in a file of yours has: a body "
     "([own robot](../own_robot.md)) or a task "
     "([user tasks](../user_tasks.md)). It is known by these names alone, and "
     "inherits from nothing.",
     {"seed.body.body_interface": "Body", "seed.curriculum.task_interface": "TaskClass"}),
    ("training", "Training", "What the commands call ([training](../training.md)).",
     {"seed.profile_file": "load_profile shipped_profiles to_toml",
      "seed.training": "train",
      "seed.training.loop": "TrainResult",
      "seed.errors": "StopReason"}),
    ("changing", "Adapting, growing, shrinking", "What the commands of the same names call "
     "([practice](../practice.md#adaptation), [resize](../resize.md)).",
     {"seed.training": "adapt_brain adapt_to_body undo_adaptation",
      "seed.training.adapt": "AdaptResult",
      "seed.training.adapt_body": "BodyAdaptResult",
      "seed.evaluation.acceptance": "Limits",
      "seed.resize": "grow_brain undo_growth shrink_brain train_growing find_size SearchOptions",
      "seed.resize.shrink": "ShrinkResult"}),
    ("brains", "Brains", "A trained brain, what it can do, and its exported file "
     "([export](../export.md)).",
     {"seed.evaluation": "TrainedBrain evaluate_brain",
      "seed.export": "build Options",
      "seed.export.brain_file": "ExportedFile"}),
    ("files", "Files of a run", "What runs write "
     "([files](../training.md#what-a-run-directory-holds)), and what was recorded "
     "([episodes](../episodes.md)).",
     {"seed.storage": "RunDir",
      "seed.storage.checkpoint": "Checkpoint read read_meta",
      "seed.storage.metrics_reader": "rows read",
      "seed.storage.curves": "read Curve Point",
      "seed.body.episodes": "EpisodeFolder Step"}),
    ("live", "Living", "The fast loop and the memory that it shares ([live](../live.md)).",
     {"seed.live.fast_loop": "FastLoop Options", "seed.live.shared_block": "Block Slip"}),
    ("errors", "Errors", "What ends a command is one of these, of which the message is one line: "
     "what happened, why, and what to do. The exit codes are those of the command "
     "([operations](../operations.md#exit-codes)). The runtime on a robot has its own: "
     "[BrainError](runtime.md).",
     {"seed.errors": "SeedError"}),
)
HEAD = "<!-- made by bin/reference.py of docstrings: change those, and run it again -->\n"


def source_of(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(source_of(module).read_text(encoding="utf-8"))


def origin(package: str, name: str) -> str:
    """The module that defines what a package, or a module, gives under a name."""
    for node in parsed(package).body:
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return f"{package}.{node.module}" if node.level else str(node.module)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES":
            return f"{package}.{ast.literal_eval(node.value)[name]}"   # what is imported when used
    return package


def definitions(module: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    return {node.name: node for node in parsed(module).body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def text_of(node: ast.FunctionDef | ast.ClassDef) -> str:
    return inspect.cleandoc(ast.get_docstring(node) or "")


def kind_of(annotation: ast.expr | None) -> str:
    """A type as it is written; one in quotes without them."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation) if annotation else ""


def argument(node: ast.arg, default: ast.expr | None) -> str:
    kind = kind_of(node.annotation)
    text = f"{node.arg}: {kind}" if kind else node.arg
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if kind else f"{text}={ast.unparse(default)}"


def signature(node: ast.FunctionDef, name: str, skipped: int = 0) -> str:
    """`skipped`: of its first arguments, as self."""
    given = node.args
    absent: list[ast.expr | None] = [None] * (len(given.args) - len(given.defaults))
    words = [argument(*pair) for pair in zip(given.args, [*absent, *given.defaults])][skipped:]
    words += [f"*{argument(given.vararg, None)}"] if given.vararg else []
    words += ["*"] if given.kwonlyargs and not given.vararg else []
    words += [argument(*pair) for pair in zip(given.kwonlyargs, given.kw_defaults)]
    words += [f"**{argument(given.kwarg, None)}"] if given.kwarg else []
    returns = f" -> {kind_of(node.returns)}" if node.returns and name == node.name else ""
    return f"{name}({', '.join(words)}){returns}"


def fields(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    """A line for each: its type and default, and what stands behind it in its line."""
    for child in node.body:
        if isinstance(child, ast.AnnAssign):
            text = f"{ast.unparse(child.target)}: {kind_of(child.annotation)}"
            if child.value and ast.unparse(child.value).partition("(")[0] != "field":
                text += f" = {ast.unparse(child.value)}"
        elif isinstance(child, ast.Assign):   # of an enum, and names of files
            text = f"{ast.unparse(child.targets[0])} = {ast.unparse(child.value)}"
            text = text.replace("_File('", "path / '").removesuffix(")")
        else:
            continue
        comment = lines[child.end_lineno - 1][child.end_col_offset:].partition("#")[2].strip()
        if text[0] != "_":
            yield bullet(text, comment)


def filled(text: str, first: str = "", indent: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent=first,
                         subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def paragraphs(text: str, indent: str = "") -> str:
    return "\n\n".join(filled(part, indent, indent) for part in text.split("\n\n"))


def bullet(head: str, text: str) -> str:
    """A list's item; the paragraphs behind its first belong to it, as they are indented."""
    first, _, rest = text.partition("\n\n")
    item = filled(f"`{head}`{f': {first}' if first else ''}", "- ", "  ")
    return f"{item}\n\n{paragraphs(rest, '  ')}" if rest else item


def methods(node: ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if not isinstance(child, ast.FunctionDef) or child.name[0] == "_":
            continue
        decorators = [ast.unparse(each) for each in child.decorator_list]
        if {"property", "cached_property"} & {*decorators}:
            yield bullet(f"{child.name}: {kind_of(child.returns)}", text_of(child))
        elif f"{child.name}.setter" not in decorators:
            text = signature(child, child.name, skipped="staticmethod" not in decorators)
            yield bullet(f"{node.name}.{text}" if "classmethod" in decorators else text,
                         text_of(child))


def class_entry(node: ast.ClassDef, lines: list[str]) -> str:
    makes = [child for child in node.body
             if isinstance(child, ast.FunctionDef) and child.name == "__init__"]
    call = signature(makes[0], node.name, skipped=1) if makes else node.name
    texts = [paragraphs(text) for text in (text_of(node), *map(text_of, makes)) if text]
    items = [*fields(node, lines), *methods(node)]
    bases = ", ".join(map(ast.unparse, node.bases)).replace("Protocol", "")
    if not items and not makes:
        return bullet(f"{node.name}({bases})", text_of(node))
    head = [] if call in (node.name, f"{node.name}()") else [f"`{call}`"]
    return "\n\n".join([f"### {node.name}", *head, *texts, "\n".join(items)])


def entry(module: str, name: str) -> str:
    home = origin(module, name)
    node = definitions(home)[name]
    if isinstance(node, ast.ClassDef):
        return class_entry(node, source_of(home).read_text(encoding="utf-8").splitlines())
    return bullet(signature(node, name), text_of(node))


def section(module: str, names: list[str]) -> str:
    """Of a module: its functions first, then its classes with what they have."""
    entries = [entry(module, name) for name in names]
    items = "\n".join(text for text in entries if text.startswith("- "))
    return "\n\n".join([f"## {module}", *filter(None, [items]),
                        *(text for text in entries if text.startswith("#"))])


def errors(module: str, top: str) -> str:
    """A table of all classes below `top`, with the exit codes that they inherit or have."""
    nodes = {name: node for name, node in definitions(module).items()
             if isinstance(node, ast.ClassDef)}
    codes = {node.targets[0].id: node.value.value for node in parsed(module).body
             if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
             and isinstance(node.targets[0], ast.Name)}
    known: dict[str, int] = {}
    rows = ["| error | is a | exit code | when |", "|---|---|---|---|"]
    for name, node in nodes.items():
        bases = [ast.unparse(base) for base in node.bases]
        if name != top and not {*bases} & {*known}:
            continue
        inherited = [known[base] for base in bases if base in known]
        stated = [codes[ast.unparse(child.value)] for child in node.body
                  if isinstance(child, ast.Assign)]
        known[name] = [*stated, *inherited][0]
        rows.append(f"| `{name}` | {', '.join(f'`{base}`' for base in bases)} | {known[name]} | "
                    f"{' '.join(text_of(node).split())} |")
    return "\n".join([f"## {module}\n", *rows])


def summary(module: str, name: str) -> str:
    """The first sentence of a docstring."""
    text = " ".join(text_of(definitions(origin(module, name))[name]).split())
    return text.partition(". ")[0].rstrip(".")


def pages() -> dict[str, str]:
    """The text of each page by its path below docs/."""
    index = [HEAD, "# Reference\n", filled(
        "What a Python program imports of Seed Brain, from the docstrings of the sources; the rest "
        "may change without notice. Settings of a profile are in `seed/config.py`, each with "
        "default, range and unit; `bin/seed COMMAND --help` describes commands; C: "
        "[embedding.md](embedding.md). Shapes are in parentheses: b batch, t time, v 256 bytes, n "
        "items.") + "\n"]
    texts = {}
    for page, title, intro, modules in PAGES:
        index += [f"## {title}\n", f"In full: [reference/{page}.md](reference/{page}.md)\n",
                  "| name | what it is or does |", "|---|---|"]
        sections = []
        for module, names in ((module, text.split()) for module, text in modules.items()):
            index += [f"| `{module}.{name}` | {summary(module, name)} |" for name in names]
            sections.append(errors(module, *names) if page == "errors" else section(module, names))
        index.append("")
        texts[f"reference/{page}.md"] = "\n".join(
            [HEAD, f"# {title}\n", filled(intro), "", "\n\n".join(sections), ""])
    return {"reference.md": "\n".join(index), **texts}


def main(folder: Path = ROOT / "docs") -> int:
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
