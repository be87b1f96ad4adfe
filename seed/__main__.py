"""The command line: python -m seed train | carve | adapt | eval | export | run | generate | items |
info | health | bench."""
import argparse
import dataclasses
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seed import __version__
from seed.config import ConfigError, Profile, from_dict, load_profile

BAD_INPUT, FAILED = 2, 1
FAULTS = ("CheckpointError", "ParameterError", "BrainError")   # of what was given
FAILURES = ("Diverged", "Unsaved")                             # of a run


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="seed", description="Trains a robot's first brain on the "
                                                           "robot itself.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--profile", default="toy", help="shipped profile or a .toml file")
        command.add_argument("--set", action="append", default=[], metavar="a.b=value",
                             dest="overrides", help="override one key of the profile")
        command.add_argument("--task", action="append", default=[], metavar="NAME[=SHARE]",
                             dest="tasks", help="add a task: path.py:ClassName, lessons.jsonl or "
                                                "notes.txt")
        command.add_argument("--seed", type=int, help="train.seed")
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    def add_brain(command: argparse.ArgumentParser) -> None:
        command.add_argument("--run-dir", type=Path, default=Path("runs/default"),
                             help="where the brain, its metrics and the kernel cache are kept")
        command.add_argument("--threads", type=int, default=os.cpu_count() or 1)

    train = add("train", "Train a brain, or go on with one.")
    train.add_argument("--minutes", type=float, help="time budget of the whole run")
    train.add_argument("--steps", type=int, help="optimizer steps of the whole run")
    train.add_argument("--memory", type=float, metavar="GB",
                       help="ceiling on the memory of the run and its children (default 6)")
    train.add_argument("--no-thermal", action="store_true", help="do not look at temperatures")
    add_brain(train)
    carve = add("carve", "Cut a smaller brain out of a trained one, which then teaches it.")
    carve.set_defaults(profile="fast")
    carve.add_argument("--out", type=Path, required=True, help="the child's run directory")
    carve.add_argument("--minutes", type=float, default=10.0, help="time to learn from the parent")
    carve.add_argument("--steps", type=int, help="optimizer steps instead")
    add_brain(carve)
    adapt = add("adapt", "Teach a brain a new rule from recorded examples, or undo that.")
    adapt.add_argument("--data", metavar="FILE", help="lessons.jsonl, notes.txt or path.py:Class")
    adapt.add_argument("--minutes", type=float, default=2.0)
    adapt.add_argument("--steps", type=int, help="optimizer steps instead")
    adapt.add_argument("--share", type=float, default=0.3, help="of the lessons, that is new")
    adapt.add_argument("--lr", type=float, default=1e-3, help="at d_model 64")
    adapt.add_argument("--undo", action="store_true", help="bring back the brain of before")
    add_brain(adapt)
    evaluate = add("eval", "Examine a brain on items it was never trained on.")
    evaluate.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots")
    evaluate.add_argument("--items", type=int, metavar="N",
                          help="items a task and level (default: the profile's holdout_items)")
    add_brain(evaluate)
    generate = add("generate", "Let a brain answer a prompt.")
    generate.add_argument("--prompt", required=True)
    generate.add_argument("--max-bytes", type=int, default=128)
    generate.add_argument("--temperature", type=float, default=0.0)
    add_brain(generate)
    export = add("export", "Write a brain as a TFLite file, and prove it against the trainer.")
    export.add_argument("--out", type=Path, help="default: brain.tflite in the run directory")
    kind = export.add_mutually_exclusive_group()
    for name in ("int8", "float16"):
        kind.add_argument(f"--{name}", action="store_const", const=name, dest="weights",
                          default="float32", help=f"{name} weights")
    export.add_argument("--target", choices=["portable", "litert"], default="portable",
                        help="portable: also for tflite-runtime 2.14")
    export.add_argument("--explicit-state", action="store_true",
                        help="states as inputs and outputs, instead of variables")
    export.add_argument("--prefill", type=int, default=0, metavar="T",
                        help="add a signature that reads T bytes at once")
    export.add_argument("--no-verify", action="store_true", help="do not run the file")
    add_brain(export)
    run = add("run", "Let an exported brain answer a prompt.")
    run.add_argument("file", type=Path)
    run.add_argument("--prompt", required=True)
    run.add_argument("--max-bytes", type=int, default=128)
    run.add_argument("--temperature", type=float, default=0.0)
    add_brain(add("info", "Describe a profile or a brain."))
    health = add("health", "Read the board's sensors, and say what the governor makes of them.")
    health.add_argument("--run-dir", type=Path, default=Path("."), help="whose disk is looked at")
    items = add("items", "Print lessons as the brain sees them.")
    items.add_argument("--count", type=int, default=1, help="items of each task and level")
    bench = add("bench", "Time a training step, alone or beside a peer, in one run.")
    bench.set_defaults(profile="seed")
    bench.add_argument("--peer", choices=["torch"], help="needs pip install 'seed-brain[peer]'")
    bench.add_argument("--turns", type=int, default=10, help="times that each contender runs")
    bench.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return top


def say(text: str) -> None:
    print(text, file=sys.stderr)


def profile_of(args: argparse.Namespace) -> Profile:
    overrides = list(args.overrides)
    for key in ("seed", "minutes", "steps"):
        if getattr(args, key, None) is not None:
            overrides.append(f"train.{key}={getattr(args, key)}")
    if getattr(args, "minutes", None) is not None and getattr(args, "steps", None) is None:
        overrides.append("train.steps=0")
    if getattr(args, "memory", None) is not None:
        overrides.append(f"governor.memory_mb={1024 * args.memory}")
    if getattr(args, "no_thermal", False):
        overrides.append("governor.thermal=false")
    return load_profile(args.profile, overrides, args.tasks)


def prepare(threads: int) -> None:
    """Before tinygrad is imported: device and compiler."""
    from seed.wavecore.compiler import find_compiler
    if not 1 <= threads <= 64:
        raise ConfigError(f"--threads is {threads}: use 1 to 64")
    os.environ.setdefault("DEV", "CPU")
    os.environ["PARALLEL"] = "0"  # a pool of compiling processes costs memory and unblocks signals
    os.environ["CC"] = find_compiler()


def prepare_brain(args: argparse.Namespace) -> None:
    """The same, with a cache of compiled kernels beside the brain."""
    prepare(args.threads)
    if "CACHEDB" not in os.environ:
        args.run_dir.mkdir(parents=True, exist_ok=True)
        os.environ["CACHEDB"] = str((args.run_dir / "kernels.db").resolve())


def load_brain(args: argparse.Namespace):
    """The newest brain of the run directory: its profile, model and step."""
    prepare_brain(args)
    from seed.training import checkpoint
    from seed.wavecore.model import WaveCore, init_params
    found = checkpoint.read_newest(args.run_dir, say)
    if found is None:
        raise ConfigError(f"{args.run_dir} has no brain: train one with --run-dir {args.run_dir}")
    profile = from_dict(found.meta["profile"])
    names = init_params(profile.model, 0)
    model = WaveCore(profile.model, {k: a for k, a in found.tensors.items() if k in names},
                     args.threads)
    return profile, model, found.meta["step"]


def run_train(args: argparse.Namespace) -> int:
    return report(args, train_brain(args, profile_of(args), args.run_dir))


def run_carve(args: argparse.Namespace) -> int:
    prepare_brain(args)
    from seed.training import carve
    from seed.training.distill import read_parent
    if args.out.resolve() == args.run_dir.resolve():
        raise ConfigError("--out is the parent's own directory: use another")
    parent = read_parent(args.run_dir, say)
    profile = profile_of(args)
    profile = dataclasses.replace(
        profile, curriculum=parent.profile.curriculum, identity=parent.profile.identity,
        distill=dataclasses.replace(profile.distill, source=str(args.run_dir)))
    carve.check(parent.config, profile.model)
    return report(args, train_brain(args, profile, args.out, lambda: carve.carve(
        parent.config, parent.params, profile.model, carve.lessons(parent.profile), args.threads)))


def run_adapt(args: argparse.Namespace) -> int:
    from seed.training import adapt, checkpoint
    from seed.training.lock import locked
    with locked(args.run_dir):
        if args.undo:
            adapt.undo(args.run_dir)
            print("the brain is as it was before the last adaptation")
            return 0
        if not args.data:
            raise ConfigError("--data is missing: name a file of recorded examples")
        brain = checkpoint.read_newest(args.run_dir, say)
        if brain is None:
            raise ConfigError(f"{args.run_dir} has no brain: train one with --run-dir "
                              f"{args.run_dir}")
        if adapt.is_published(args.run_dir, brain):
            adapt.clear(args.run_dir)
            print("this adaptation had ended already")
            return 0
        parent = from_dict(brain.meta["profile"])
        profile = adapt.profile_for(parent, args.data, args.share, args.minutes, args.steps or 0,
                                    args.lr)
        prepare_brain(args)
        from seed.curriculum.lessons import Curriculum
        from seed.training.evaluate import evaluate
        from seed.training.step import Forwards
        from seed.wavecore.model import WaveCore, init_params
        weights = {key: brain.tensors[key] for key in init_params(parent.model, 0)}
        curriculum = Curriculum(profile.curriculum, profile.identity, profile.train.seed)
        folder = adapt.enter(args.run_dir, profile)
        before = evaluate(curriculum.holdout(profile.curriculum.holdout_items), curriculum,
                          Forwards(WaveCore(parent.model, weights, args.threads)),
                          profile.train.seq_len) or []
        result = train_brain(args, profile, folder, lambda: weights)
        if not result.finished:
            return report(args, result)
        adapted = checkpoint.read(folder / checkpoint.NAME).tensors
        adapt.publish(args.run_dir, brain, {key: adapted[key] for key in weights})
    after = result.scores or []
    if args.json:
        print(json.dumps({"step": result.step, "before": [s.to_dict() for s in before],
                          "after": [s.to_dict() for s in after]}))
    else:
        print(adapt.table(before, after))
    return 0


def train_brain(args: argparse.Namespace, profile: Profile, run_dir: Path,
                weights: Callable[[], dict[str, Any]] | None = None):
    """Trains, or goes on; a fresh brain starts from `weights` if there are any."""
    from seed.training.signals import Requests
    requests = Requests().watch()
    prepare_brain(args)
    from seed import system_health
    from seed.curriculum.lessons import Curriculum
    from seed.training import checkpoint, distill
    from seed.training.learner import Learner
    from seed.training.lock import locked
    from seed.training.loop import Result, train
    from seed.training.memory import check_fits
    with locked(run_dir):
        Curriculum(profile.curriculum, profile.identity, profile.train.seed)  # tasks are known
        say(check_fits(profile, args.threads, system_health.read(run_dir)))
        learner, soft = Learner(profile, args.threads), None
        if weights and not (run_dir / checkpoint.NAME).exists():
            learner.model.load_state_dict(weights())
        if profile.distill.source:
            soft = distill.prepare(profile, run_dir, args.threads, say, requests.stop.is_set)
            if not soft:
                return Result(0, False, None)
        return train(profile, run_dir, learner, requests, soft=soft.batch if soft else None)


def report(args: argparse.Namespace, result) -> int:
    """Says where a run has ended."""
    from seed.training.evaluate import table
    if not result.finished:
        say(f"stopped at step {result.step}; run the same command to go on")
        return 0
    scores = result.scores or []
    if args.json:
        print(json.dumps({"step": result.step, "scores": [s.to_dict() for s in scores]}))
    else:
        print(f"finished at step {result.step}\n{table(scores)}")
    return 0


ASKED, TALKED = 16, 2000   # questions a task about consistency; bytes that it tells itself


def run_eval(args: argparse.Namespace) -> int:
    if args.items is not None and not 1 <= args.items <= 100_000:
        raise ConfigError(f"--items is {args.items}: use 1 to 100000")
    profile, model, step = load_brain(args)
    from seed.curriculum.lessons import Curriculum
    from seed.training import intuition, metrics, report
    from seed.training.evaluate import evaluate, table
    from seed.training.step import Forwards
    from seed.wavecore.decode import Decoder
    curriculum = Curriculum(profile.curriculum, profile.identity, profile.train.seed)
    forward, t = Forwards(model), profile.train.seq_len
    n, scores = args.items or profile.curriculum.holdout_items, {}
    holdout = curriculum.holdout(n)
    for name, items in (("holdout", holdout), ("extrapolation", curriculum.extrapolation(n))):
        scores[name] = evaluate(items, curriculum, forward, t) or []
    minds = intuition.consistency(curriculum, forward, t, min(n, ASKED))
    sure = intuition.calibration(holdout, forward, t)
    free = intuition.stability(Decoder(model), TALKED)
    found = {"profile": profile.name, "step": step,
             **{name: [s.to_dict() for s in own] for name, own in scores.items()},
             "consistency": [dataclasses.asdict(mind) for mind in minds],
             "calibration": {**dataclasses.asdict(sure), "error": sure.error},
             "stability": dataclasses.asdict(free),
             "school": metrics.read(args.run_dir / "metrics.jsonl", "exam")}
    if args.html:
        args.html.write_text(report.page(found), encoding="utf-8")
    if args.json:
        print(json.dumps(found))
        return 0
    print(f"brain at step {step}")
    for name, own in scores.items():
        print(f"\n{name}\n{table(own)}")
    print(f"\nthe same answer after every history: {sum(m.same for m in minds)} of "
          f"{sum(m.asked for m in minds)} questions, right {sum(m.right for m in minds)}\n"
          f"calibration error {100 * sure.error:.1f} %\n{free.steps} bytes to itself: states "
          f"{'finite' if free.finite else 'NOT FINITE'}, {100 * free.repetition:.1f} % repeated")
    return 0


def check_prompt(args: argparse.Namespace) -> None:
    if not args.prompt:
        raise ConfigError("--prompt is empty: give at least one character")
    if not 0 <= args.temperature <= 100:
        raise ConfigError(f"--temperature is {args.temperature}: use 0 to 100")
    if args.max_bytes < 1:
        raise ConfigError(f"--max-bytes is {args.max_bytes}: use at least 1")


def run_generate(args: argparse.Namespace) -> int:
    check_prompt(args)
    _, model, _ = load_brain(args)
    from seed.curriculum.vocab import END, decode, encode
    from seed.wavecore.decode import Decoder
    answer = bytes(Decoder(model).generate(encode(args.prompt), args.max_bytes, END,
                                           args.temperature, args.seed or 0))
    text = decode(answer)
    print(json.dumps({"prompt": args.prompt, "answer": text}) if args.json else text)
    return 0


def run_export(args: argparse.Namespace) -> int:
    from seed.export.graph import Options
    from seed.export.translate import Source, publish, translate
    from seed.export.verify import FAULTLESS, table
    from seed.training.checkpoint import NAME
    if not 0 <= args.prefill <= 64 or args.prefill == 1:
        raise ConfigError(f"--prefill is {args.prefill}: use 2 to 64, or 0 for none")
    source = Source(args.run_dir / NAME)
    options = Options(args.target, args.weights, args.explicit_state, args.prefill)
    out = args.out or args.run_dir / "brain.tflite"
    if args.no_verify:
        publish(out, translate(source, options, None))
        print(f"{out}: {out.stat().st_size} bytes, not verified")
        return 0
    report = prove(args, source, translate(source, options, None))
    if args.weights == "float32" and report.reference.relative > FAULTLESS:
        print(f"seed: {out} was not written: its logits differ from the reference by "
              f"{report.reference.relative:.1e} of their range", file=sys.stderr)
        return FAILED
    publish(out, translate(source, options, report.holdout))
    facts = dataclasses.asdict(report)
    print(json.dumps(facts) if args.json else f"{out}\n{table(report)}")
    return 0


def prove(args: argparse.Namespace, source, data: bytes):
    """Runs a file's bytes against the trainer's own model."""
    import tempfile
    prepare_brain(args)
    from seed.curriculum.lessons import Curriculum
    from seed.export.reference import Reference
    from seed.export.verify import verify
    from seed.runtime import Brain
    from seed.training.evaluate import evaluate
    from seed.training.step import Forwards
    from seed.wavecore.decode import Decoder
    from seed.wavecore.model import WaveCore
    profile = source.profile
    model = WaveCore(profile.model, source.params, args.threads)
    curriculum = Curriculum(profile.curriculum, profile.identity, profile.train.seed)
    items = curriculum.holdout(profile.curriculum.holdout_items)
    scores = evaluate(items, curriculum, Forwards(model), profile.train.seq_len) or []
    decoder = Decoder(model)
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(data)
        file.flush()
        return verify(Brain(file.name), Reference(profile.model, source.params),
                      lambda byte: decoder.prefill(bytes([byte])), items,
                      [s.to_dict() for s in scores], len(data))


def run_run(args: argparse.Namespace) -> int:
    from seed.runtime import Brain
    check_prompt(args)
    brain = Brain(args.file)
    text = brain.generate(args.prompt, args.max_bytes, args.temperature, args.seed or 0)
    print(json.dumps({"prompt": args.prompt, "answer": text}) if args.json else text)
    return 0


def run_items(args: argparse.Namespace) -> int:
    from seed.curriculum.lessons import Curriculum, samples
    profile = profile_of(args)
    curriculum = Curriculum(profile.curriculum, profile.identity, profile.train.seed)
    for item in samples(curriculum, args.count):
        prompt, answer = (part.decode(errors="replace") for part in (item.prompt, item.answer))
        row = {"task": item.task, "level": item.level, "prompt": prompt, "answer": answer}
        print(json.dumps(row) if args.json else
              f"{item.task:<14}{item.level:>2}  {row['prompt']}{row['answer']}")
    return 0


def run_info(args: argparse.Namespace) -> int:
    from seed.training import checkpoint
    from seed.wavecore.layout import count_params
    found = checkpoint.read_newest(args.run_dir, say)
    profile = from_dict(found.meta["profile"]) if found else profile_of(args)
    facts = {"profile": profile.name, "parameters": count_params(profile.model),
             "layers": profile.model.layer_kinds, "step": found.meta["step"] if found else None,
             "model": dataclasses.asdict(profile.model)}
    if args.json:
        print(json.dumps(facts))
    else:
        print("\n".join(f"{key:<12}{value}" for key, value in facts.items()))
    return 0


def run_health(args: argparse.Namespace) -> int:
    from seed import governor, system_health
    config = profile_of(args).governor
    health = system_health.read(args.run_dir)
    decision = governor.decide(config, governor.History(), health, 0.0)[0]
    ceiling = governor.ceiling_mb(config, health)
    limit = health.cgroup_limit_mb.value
    enforcement = [f"the trainer stops itself above {ceiling:.0f} MB"]
    if limit is not None and limit != float("inf"):
        enforcement.append(f"the kernel's memory cgroup kills above {limit:.0f} MB")
    if args.json:
        facts = dataclasses.asdict(health)
        facts["cgroup_limit_mb"]["value"] = None if limit == float("inf") else limit
        print(json.dumps({**facts, "verdict": decision._asdict(), "enforcement": enforcement}))
        return 0
    print(f"{'board':<18}{health.board or 'none in the device tree'}")
    for name, reading in health.readings().items():
        value = f"unknown: {reading.reason}" if reading.value is None else f"{reading.value:,.1f}"
        print(f"{name:<18}{value}")
    bits = health.throttled
    now = [name for name, on in bits.now().items() if on]
    print(f"{'throttled':<18}" + (f"unknown: {bits.reason}" if bits.bits is None else
                                  f"now {', '.join(now) or 'no'}; since boot "
                                  f"{', '.join(bits.since_boot) or 'no'}"))
    print(f"{'verdict':<18}{decision.action}{': ' * bool(decision.reason)}{decision.reason}")
    print(f"{'enforcement':<18}{'; '.join(enforcement)}")
    return 0


def run_bench(args: argparse.Namespace) -> int:
    profile_of(args)  # refuses a bad profile before any process starts
    if args.turns < 1:
        raise ConfigError(f"--turns is {args.turns}: use at least 1")
    if args.peer and importlib.util.find_spec("torch") is None:
        raise ConfigError("--peer torch needs PyTorch: pip install 'seed-brain[peer]'")
    prepare(args.threads)
    from seed.bench.compare import BenchError, bench, table
    try:
        report = bench(args.profile, args.overrides, args.threads, bool(args.peer), args.turns)
    except BenchError as error:
        print(f"seed: {error}", file=sys.stderr)
        return FAILED
    print(json.dumps(report) if args.json else table(report))
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    from seed.wavecore.compiler import CompilerError
    run = {"train": run_train, "eval": run_eval, "generate": run_generate, "items": run_items,
           "info": run_info, "export": run_export, "run": run_run, "carve": run_carve,
           "adapt": run_adapt,           "health": run_health, "bench": run_bench}[args.command]
    try:
        code = run(args)
        sys.stdout.flush()
        return code
    except (ConfigError, CompilerError) as error:
        print(f"seed: {error}", file=sys.stderr)
    except BrokenPipeError:  # who read has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(f"seed: {error.filename or args.run_dir}: {error.strerror}", file=sys.stderr)
    except (ValueError, RuntimeError) as error:  # by name: their modules are not imported yet
        if type(error).__name__ not in (*FAULTS, *FAILURES):
            raise
        print(f"seed: {error}", file=sys.stderr)
        return FAILED if type(error).__name__ in FAILURES else BAD_INPUT
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
