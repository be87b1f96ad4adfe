"""C sources are compiled and run: they give the trainer's bits, need nothing, and are verified."""
import ctypes
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from seed.__main__ import main
from seed.curriculum.vocab import END
from seed.errors import CompilerError, ExportError
from seed.export import c_file
from seed.export.c_file import COMPILERS, STEPS, CompiledBrain, build_c, verify_c
from seed.export.c_source import FLAGS, MARK, c_source
from seed.export.reference import Reference
from seed.storage import RunDir
from seed.wavecore.compiler import find_compiler
from tests.support import brains
from tests.support.acting_brains import untrained as acting_brain
from tests.support.tflite import SMALL

MAX_OBJECT_BYTES = 700_000   # of the profile fast
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow",
            "-Wundef", "-Werror"]
SHAPES = {
    "small": SMALL,
    "ssm": ("model.pattern=S", "model.n_layers=2", "model.d_model=48", "model.head_dim=16",
            "model.d_state=32", "model.transition=diagonal"),
    "attention": ("model.pattern=A", "model.n_layers=2", "model.d_model=64", "model.head_dim=64",
                  "model.sliding_window=16"),
    "deep products": ("model.pattern=AS", "model.n_layers=2", "model.d_model=288",
                      "model.head_dim=96", "model.sliding_window=2", "model.d_ff=16",
                      "model.d_conv=8", "model.beta_max=1.0"),
    "turns": ("model.pattern=SA", "model.n_layers=2", "model.d_model=32", "model.rotary_steps=120"),
    "larger turns": ("model.pattern=S", "model.n_layers=2", "model.d_model=48",
                     "model.head_dim=16", "model.d_state=48", "model.rotary_steps=7"),
    "window": ("model.pattern=SA", "model.n_layers=2", "model.d_model=32", "model.d_conv=2",
               "model.sliding_window=17")}


def compilers() -> list[str]:
    """That of the kernels, and gcc where it is."""
    return [find_compiler(), *filter(shutil.which, ["gcc"])]


@pytest.fixture(scope="session")
def source(brain) -> bytes:
    return c_source(brain)


@pytest.fixture(scope="session")
def acting_source() -> bytes:
    return c_source(acting_brain())


@pytest.fixture(scope="session")
def turning_source(tmp_path_factory) -> bytes:
    return c_source(brains.trained(brains.untrained(
        tmp_path_factory.mktemp("turning"), "toy", *SMALL, "model.rotary_steps=120")))


@pytest.fixture(scope="session")
def compiled(source) -> CompiledBrain:
    return CompiledBrain(source, find_compiler())


@pytest.fixture
def run_dir(tmp_path) -> RunDir:
    brains.untrained(tmp_path / "run", "toy", *SMALL)
    return RunDir(tmp_path / "run")


def logits_of(step_fn, data: list[int]) -> np.ndarray:
    return np.array([step_fn(byte) for byte in data])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_compiler_gives_the_bits_of_the_kernels_that_train(tmp_path, shape):
    trained, data = brains.trained(brains.untrained(tmp_path, "toy", *SHAPES[shape])), [
        *brains.some_bytes(200), *range(256)]
    expected = logits_of(lambda byte: trained.decoder.prefill(bytes([byte])), data)
    for compiler in compilers():
        logits = logits_of(CompiledBrain(c_source(trained), compiler).step, data)
        assert logits.tobytes() == expected.tobytes(), compiler


def test_fast_is_within_1e_5_of_the_reference_and_small(tmp_path):
    trained = brains.trained(brains.untrained(tmp_path, "fast"))
    source, path = c_source(trained), tmp_path / "brain.o"
    for compiler in compilers():
        report = verify_c(source, trained, compiler, steps=300)
        assert report.reference.steps == 300 and report.reference.relative_delta < 1e-5
        assert report.trainer.max_delta == 0 and report.p50_us > 0
        subprocess.run([compiler, *FLAGS, "-x", "c", "-", "-c", "-o", str(path)], input=source,
                       check=True)
        assert path.stat().st_size < MAX_OBJECT_BYTES


@pytest.mark.parametrize("kind", ["source", "acting_source", "turning_source"])
def test_both_kinds_of_cpu_and_compiler_take_it_without_a_warning(kind, tmp_path, request):
    source = request.getfixturevalue(kind)
    commands = [[find_compiler(), f"--target={target}", *flags] for target, flags in (
        ("x86_64-none-elf", ["-march=x86-64"]), ("x86_64-none-elf", ["-march=x86-64-v3"]),
        ("x86_64-none-elf", ["-march=x86-64-v4"]), ("aarch64-none-elf", ["-mcpu=cortex-a76"]),
        ("armv7em-none-eabihf", ["-mcpu=cortex-m7"]))]
    commands += [[name] for name in filter(shutil.which, ["gcc", "aarch64-linux-gnu-gcc"])]
    for command in commands:
        for level in ("-O0", "-O2"):
            subprocess.run([*command, *FLAGS, level, "-ffreestanding", *WARNINGS, "-x", "c", "-",
                            "-c", "-o", str(tmp_path / "o")], input=source, check=True)
    subprocess.run([find_compiler(), "-x", "c++", "-", "-fsyntax-only", "-ffreestanding",
                    "-DBRAIN_DECLARATIONS", *WARNINGS], input=source, check=True)


def test_it_needs_no_library_but_for_copying_memory(acting_source, tmp_path):
    (tmp_path / "brain.c").write_bytes(acting_source)
    (tmp_path / "memory.c").write_text(
        "void *memset(void *p, int c, unsigned long n) { return n ? p : (void *)(long)c; }\n"
        "void *memcpy(void *p, const void *q, unsigned long n) { return n ? p : (void *)q; }\n")
    for compiler in compilers():
        subprocess.run([compiler, *FLAGS, "-ffreestanding", "-fno-builtin", "-nostdlib", "-shared",
                        "-fPIC", "-Wl,-z,defs", "brain.c", "memory.c", "-o", "library.so"],
                       cwd=tmp_path, check=True)


def test_another_file_declares_what_it_calls(source, compiled, tmp_path):
    (tmp_path / "brain.c").write_bytes(source)
    (tmp_path / "main.c").write_text(f"#define EXPECTED_END {END}" + """
#include <stdio.h>
#define BRAIN_DECLARATIONS
#include "brain.c"
_Static_assert(BRAIN_END == EXPECTED_END, "the byte that ends an answer");
int main(void) {
    static brain_state state;
    float logits[256];
    brain_reset(&state);
    brain_step(&state, 'A', logits);
    return fwrite(logits, 4, 256, stdout) != 256;
}
""")
    for compiler in compilers():
        subprocess.run([compiler, *FLAGS, *WARNINGS, "main.c", "brain.c", "-o", "main"],
                       cwd=tmp_path, check=True)
        logits = np.frombuffer(subprocess.run([str(tmp_path / "main")], check=True,
                                              stdout=subprocess.PIPE).stdout, np.float32)
        compiled.reset()
        np.testing.assert_allclose(logits, compiled.step(65), atol=1e-5 * np.ptp(logits))


def test_two_brains_are_in_one_program_under_names_of_their_own(source, tmp_path):
    (tmp_path / "brain.c").write_bytes(source)
    (tmp_path / "call.c").write_text("""#define BRAIN_DECLARATIONS
#include "brain.c"
void CALL(float logits[256]);
void CALL(float logits[256]) {
    static brain_state state;
    brain_step(&state, 'A', logits);
}
""")
    (tmp_path / "main.c").write_text("""#include <string.h>
void call_left(float *), call_right(float *);
int main(void) {
    float left[256], right[256];
    call_left(left);
    call_right(right);
    return memcmp(left, right, sizeof left);
}""")
    for side in ("left", "right"):
        names = [f"-Dbrain_{name}={side}_{name}" for name in ("state", "reset", "step")]
        for file in ("brain", "call"):
            subprocess.run([find_compiler(), *FLAGS, *WARNINGS, *names, f"-DCALL=call_{side}", "-c",
                            f"{file}.c", "-o", f"{side}_{file}.o"], cwd=tmp_path, check=True)
    objects = [f"{side}_{file}.o" for side in ("left", "right") for file in ("brain", "call")]
    subprocess.run([find_compiler(), "main.c", *objects, "-o", "main"], cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "main")], check=True)


@pytest.mark.parametrize("flag", ["-ffast-math", "-ffinite-math-only"])
def test_flags_that_change_what_a_number_is_are_refused(source, flag):
    """With -ffinite-math-only an absent number of an observation would be a level of it."""
    for compiler in compilers():
        done = subprocess.run([compiler, *FLAGS, flag, "-x", "c", "-", "-fsyntax-only"],
                              input=source, capture_output=True)
        assert done.returncode and b"without -ffast-math" in done.stderr, compiler


def test_a_copy_of_the_struct_is_the_state(compiled):
    data = brains.some_bytes(60)
    compiled.reset()
    logits_of(compiled.step, data[:30])
    saved = compiled.state.raw
    expected = logits_of(compiled.step, data[30:])
    compiled.reset()
    fresh = logits_of(compiled.step, data[30:])
    ctypes.memmove(compiled.state, saved, len(saved))
    assert logits_of(compiled.step, data[30:]).tobytes() == expected.tobytes() != fresh.tobytes()


def test_a_reset_begins_anew(compiled, brain):
    reference, data = Reference(brain.profile.model, brain.params), brains.some_bytes(40)
    for _ in range(2):
        compiled.reset()
        reference.reset()
        expected = logits_of(reference.step, data)
        np.testing.assert_allclose(logits_of(compiled.step, data), expected,
                                   atol=1e-5 * np.ptp(expected))


def test_the_bytes_depend_on_the_checkpoint_alone_and_names_stay_in_their_comment(brain, source):
    assert c_source(replace(brain, threads=2)) == source
    name = 'a */ int x; "??/\n#error "b'
    hostile = c_source(replace(brain, profile=replace(brain.profile, name=name))).decode()
    comment, _, rest = hostile.partition("*/")
    assert "a __ int x_ ______error _b" in comment
    assert rest == source.decode().partition("*/")[2] and "??" not in hostile and rest.isascii()


def test_a_hostile_name_of_a_body_stays_in_the_comment():
    name, trained = "*/ int x;\n", acting_brain()
    facts = trained.bodies["rover"]
    hostile = c_source(replace(
        trained, bodies={name: facts._replace(codec=replace(facts.codec, name=name))},
        params={key.replace("bodies.rover", f"bodies.{name}"): array
                for key, array in trained.params.items()})).decode()
    assert "Body 0, __ int x__: 13 numbers in" in hostile.partition("*/")[0]


def test_a_brain_is_written_verified_and_replaced_by_itself_alone(run_dir, capsys):
    command = ["export", "--c", "--run-dir", str(run_dir), "--threads", "1"]
    for _ in range(2):
        assert main(command) == 0
        text = capsys.readouterr().out
        assert f"the same bits in {STEPS} steps" in text and "us median" in text
        assert " ".join(c_file.flags()) in text   # with others the last digits may differ
    assert run_dir.exported_c.read_bytes().startswith(MARK)
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["verified"] and facts["size"] == run_dir.exported_c.stat().st_size
    assert main([*command, "--no-verify"]) == 0
    assert "bytes, not verified\n" in capsys.readouterr().out
    run_dir.exported_c.write_text("int mine;\n")
    assert main(command) == 2
    assert "is not a C source of a brain" in capsys.readouterr().err
    assert run_dir.exported_c.read_text() == "int mine;\n"


def test_without_a_compiler_it_is_written_and_says_that_nothing_was_verified(run_dir, monkeypatch):
    def missing() -> str:
        raise CompilerError("there is no C compiler here")
    monkeypatch.setattr(c_file, "any_compiler", missing)
    assert build_c(run_dir).describe().endswith(
        "bytes, not verified: there is no C compiler here")
    assert run_dir.exported_c.read_bytes().startswith(MARK)


def test_gcc_verifies_where_there_is_no_clang(monkeypatch):
    monkeypatch.setattr(c_file, "find_compiler", lambda: (_ for _ in ()).throw(CompilerError("no")))
    monkeypatch.setattr(shutil, "which", lambda name: name if name == COMPILERS[1] else None)
    assert c_file.any_compiler() == COMPILERS[1]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CompilerError, match="there is no C compiler here"):
        c_file.any_compiler()


@pytest.mark.parametrize("line, message", [
    ("#define BETA_MAX 1.5f\n", "not the trainer's"), ("#error no\n", "not verified")])
def test_a_source_that_computes_something_else_is_not_written(run_dir, monkeypatch, line, message):
    name = line.rpartition(" ")[0] + " "
    changed = [line if text.startswith(name) else text
               for text in c_source(brains.trained(run_dir.checkpoint)).decode().splitlines(True)]
    text = "".join(changed) + line * ("error" in line)
    monkeypatch.setattr(c_file, "c_source", lambda trained: text.encode())
    if "error" in line:   # no compiler takes it: nothing is known
        assert message in build_c(run_dir, log=lambda _: None).describe()
        return
    with pytest.raises(ExportError, match=message):
        build_c(run_dir, log=lambda _: None)
    assert not run_dir.exported_c.exists()


def test_what_a_source_cannot_do_is_one_line(run_dir, capsys):
    command = ["export", "--c", "--run-dir", str(run_dir)]
    for flags in (["--target", "litert"], ["--explicit-state"], ["--prefill", "4"],
                  ["--check-rate"]):
        assert main([*command, *flags]) == 2
        assert capsys.readouterr().err.startswith("seed: --c writes one step")
    with pytest.raises(SystemExit):
        main([*command, "--int8"])


def test_bodies_act_with_the_bits_and_choices_of_the_trainer(acting_source):
    trained = acting_brain()
    for compiler in compilers():
        report = verify_c(acting_source, trained, compiler, steps=50)
        assert report.same_ticks == {"cartpole": True, "rover": True}
        assert report.trainer.max_delta == 0


def test_a_source_that_acts_otherwise_is_not_written(tmp_path, monkeypatch):
    trained = acting_brain()
    codec = trained.bodies["rover"].codec
    narrower = replace(codec, channels=(replace(codec.channels[0], low=codec.channels[0].low - 1),
                                        *codec.channels[1:]))
    other = replace(trained, bodies=dict(
        trained.bodies, rover=trained.bodies["rover"]._replace(codec=narrower)))
    monkeypatch.setattr(c_file.TrainedBrain, "load", lambda *_: trained)
    monkeypatch.setattr(c_file, "c_source", lambda _: c_source(other))
    with pytest.raises(ExportError, match="does not act in rover as the trainer does"):
        build_c(RunDir(tmp_path), tmp_path / "brain.c")
    assert not (tmp_path / "brain.c").exists()


def test_an_episode_begins_and_is_saved_with_the_struct(acting_source):
    brain, control = CompiledBrain(acting_source, find_compiler()), np.zeros(128, np.float32)
    observations, action = np.random.default_rng(1).uniform(-1, 1, (6, 4)), np.zeros(1)

    def logits_after(*rows: np.ndarray) -> list[bytes]:
        assert all(brain.act(row, action, control) for row in rows)
        return [control.tobytes()]
    assert brain.begin(0) and not brain.begin(2) and not brain.begin(-1)
    logits_after(*observations[:3])
    saved = brain.state.raw
    expected = logits_after(*observations[3:])
    ctypes.memmove(brain.state, saved, len(saved))
    assert logits_after(*observations[3:]) == expected
    ctypes.memmove(brain.state, saved, len(saved))
    brain.begin(0)   # the last action is forgotten, all else remembered
    begun = logits_after(*observations[3:])
    brain.reset()
    assert len({*begun, *expected, *logits_after(*observations[3:])}) == 3


def test_noise_draws_another_choice_and_logits_that_are_not_finite_no_action(acting_source):
    brain, control = CompiledBrain(acting_source, find_compiler()), np.zeros(128, np.float32)
    trained, action = acting_brain(), np.full(4, 7.0)
    parts = trained.bodies["rover"].codec.actions
    for chosen in (0, 5, 8):
        brain.reset()
        brain.begin(1)
        choices = [(chosen + i) % 9 for i in range(len(parts))]
        noise = np.concatenate([1e3 * (np.arange(9) == choice) for choice in choices])
        assert brain.act(np.zeros(13), action, control, noise)
        assert action.tolist() == [part[choice] for part, choice in zip(parts, choices)]
    params = dict(trained.params, **{"bodies.rover.control": np.full_like(
        trained.params["bodies.rover.control"], 3e38)})
    brain = CompiledBrain(c_source(replace(trained, params=params)), find_compiler())
    action[:] = 7
    brain.begin(1)
    assert not brain.act(np.zeros(13), action, control) and action.tolist() == [7] * 4
