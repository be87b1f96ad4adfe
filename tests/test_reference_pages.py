"""docs/reference.md and its pages: made of docstrings by bin/reference.py, whole and never
stale."""
import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

from seed.body import user_body_worker
from seed.body.body_interface import Body
from seed.curriculum import user_task_worker
from seed.curriculum.task_interface import TaskClass
from seed.live import body_worker

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference():
    """bin/reference.py as a module."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "bin/reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def modules_of(reference) -> list[tuple[str, str]]:
    return [(module, name) for *_, modules in reference.PAGES
            for module, names in modules.items() for name in names.split()]


def imports(source: str) -> list[str]:
    """What a program imports of seed, with the module before each name."""
    return [f"{node.module}.{alias.name}" for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "seed"
            for alias in node.names]


def test_the_pages_are_what_the_script_makes_of_the_docstrings(reference, tmp_path):
    assert reference.main(tmp_path) == 0
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.md")}
    pages = [ROOT / "docs/reference.md", *(ROOT / "docs/reference").glob("*")]
    assert made == {path.relative_to(ROOT / "docs"): path.read_text() for path in pages}, (
        "run bin/reference.py")


def test_all_that_is_public_in_the_reference_has_a_docstring(reference):
    for module, name in modules_of(reference):
        node = reference.definitions(reference.origin(module, name))[name]
        methods = [child for child in node.body if isinstance(child, ast.FunctionDef)
                   and child.name[0] != "_" and not any(
                       ast.unparse(each).endswith(".setter") for each in child.decorator_list)]
        nodes = [node, *(methods if isinstance(node, ast.ClassDef) else [])]
        assert not [each.name for each in nodes if not ast.get_docstring(each)], name


def test_what_pages_and_examples_import_is_in_the_reference(reference):
    named = {f"{module}.{name}" for module, name in modules_of(reference)}
    named |= {module for module, _ in modules_of(reference)}
    named |= {f"seed.errors.{name}" for name in re.findall(
        r"^\| `(\w+)`", (ROOT / "docs/reference/errors.md").read_text(), re.MULTILINE)}
    sources = [path.read_text() for path in (ROOT / "examples").glob("*.py")]
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        sources += re.findall(r"^```python(?: long)?\n(.*?)^```", page.read_text(),
                              re.DOTALL | re.MULTILINE)
    imported = {name for source in sources for name in imports(source)}
    assert len(imported) > 8 and imported <= named


@pytest.mark.parametrize("module", ["seed.runtime", "seed.storage", "seed.live.fast_loop",
                                    "seed.training", "seed.export"])
def test_parameters_and_defaults_are_those_of_the_imported_functions(reference, module):
    for name in [name for first, name in modules_of(reference) if first == module]:
        thing = getattr(importlib.import_module(module), name)
        node = reference.definitions(reference.origin(module, name))[name]
        pairs = [(thing, node)] if inspect.isfunction(thing) else [
            (vars(thing)[child.name], child) for child in node.body
            if inspect.isfunction(vars(thing).get(getattr(child, "name", "")))]
        for function, child in pairs:
            written = ast.parse(f"def {reference.signature(child, child.name)}: ...").body[0].args
            parameters = inspect.signature(function).parameters.values()
            assert [a.arg for a in (*written.args, *written.kwonlyargs)] == [
                p.name for p in parameters]
            defaults = [*written.defaults, *filter(None, written.kw_defaults)]
            assert len(defaults) == sum(p.default is not p.empty for p in parameters)


def test_the_interfaces_have_what_the_workers_look_for():
    assert {*Body.__annotations__, "reset", "step"} == {*user_body_worker.REQUIRED}
    assert {*TaskClass.__annotations__, "chance", "generate", "verify"} == {
        *user_task_worker.REQUIRED}
    text = Body.__doc__ or ""
    optional = re.findall(r'"has_(\w+)": hasattr', inspect.getsource(user_body_worker))
    assert len(optional) == 2 and not [name for name in (
        "rate_hz", "randomize", *optional, *body_worker.METHODS, *body_worker.OWNERS)
        if not re.search(rf"`{name}\b", text)]
