"""Imports point down, and what a robot or a checker needs never pulls in tinygrad."""
import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SEED = ROOT / "seed"
# From top to bottom: a room imports only rooms below it. `root` is the files beside the rooms.
ROOMS = ("commands", "experiments", "bench", "sharing", "live", "serve", "export", "resize",
         "training", "practice", "evaluation", "body", "wavecore", "storage", "terminal",
         "curriculum", "root", "runtime")
RUNTIME_FILES = {path.stem for path in (SEED / "runtime").glob("*.py")}
LEVEL = {room: level for level, room in enumerate(ROOMS)}
ENTRY = ("__main__.py", "__init__.py")   # the command line above all rooms; the version
WITHOUT_TINYGRAD = ("seed.config", "seed.rng", "seed.runtime", "seed.system_health",
                    "seed.governor", "seed.curriculum.dataset", "seed.storage", "seed.export",
                    "seed.export.brain_file", "seed.export.verify", "seed.evaluation.exact_match",
                    "seed.training.loop", "seed.serve.serving",
                    "seed.live.fast_loop", "seed.live.brain_worker",
                    "seed.__main__")


def room_of(path: Path) -> str:
    parts = path.relative_to(SEED).parts
    return parts[0] if len(parts) > 1 else "root"


def imported_modules(path: Path) -> set[str]:
    """Of seed, in any scope of the file."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
            is_alone = path.parent.name == "runtime"   # a robot has the folder without the package
            assert node.level == (node.module in RUNTIME_FILES and is_alone), f"{path}: relative"
    return {name for name in modules if name.split(".")[0] == "seed"}


def edges() -> dict[tuple[str, str], list[str]]:
    """(importing room, imported room) -> where."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in SEED.rglob("*.py"):
        if path.parent == SEED and path.name in ENTRY:
            continue
        for name in imported_modules(path):
            second = name.split(".")[1] if "." in name else ""
            target = second if second in LEVEL else "root"
            found.setdefault((room_of(path), target), []).append(f"{path.name}: {name}")
    return found


def test_every_room_is_in_the_order():
    rooms = {path.name for path in SEED.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ROOMS) - {"root"}


def test_imports_point_down():
    upward = {edge: places for edge, places in edges().items()
              if LEVEL[edge[0]] > LEVEL[edge[1]]}
    assert not upward


def test_the_runtime_imports_nothing_of_ours():
    for path in (SEED / "runtime").glob("*.py"):
        assert not imported_modules(path)


def test_what_a_robot_or_a_checker_needs_imports_without_tinygrad():
    code = f"""
import importlib, sys
for name in {WITHOUT_TINYGRAD}:
    importlib.import_module(name)
    if "tinygrad" in sys.modules:
        sys.exit(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_training_imports_nothing_large_that_it_does_not_use():
    """16 MB: TLS, OpenSSL's hashes, SQLite, MIME, and tinygrad's bindings of other renderers."""
    code = ("import sys, seed.__main__, seed.training.pipeline; print(*{'ssl', '_hashlib', "
            "'sqlite3', 'email', 'tinygrad.runtime.autogen.mesa'} & {*sys.modules})")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_a_file_is_judged_where_there_are_no_checkpoints():
    """tests/support/judge.py runs in tflite-runtime's environment, which has numpy and no more."""
    code = ("import sys; sys.modules['safetensors'] = sys.modules['tinygrad'] = None; "
            "import seed.export.verify")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_exporter_imports_without_a_tflite_runtime():
    code = ("import sys, seed.export.brain_file; sys.exit(bool({name.split('.')[0] for name in "
            "sys.modules} & {'ai_edge_litert', 'tflite_runtime', 'torch'}))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_tick_loop_needs_the_standard_library_alone():
    code = ("import sys, seed.live.tick_loop; sys.exit(bool({'numpy', 'tinygrad', 'ctypes.util', "
            "'ai_edge_litert'} & {*sys.modules}))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
