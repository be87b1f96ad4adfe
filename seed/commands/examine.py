"""eval, generate, export and run."""
import argparse
import dataclasses
import json
import sys
from pathlib import Path

from seed.storage import atomic_file
from seed.commands.start import load_brain, newest, prepare_brain
from seed.errors import ConfigError
from seed.errors import FAILED

ASKED, TALKED = 16, 2000   # questions a task about consistency; bytes that it tells itself


def run_eval(args: argparse.Namespace) -> int:
    if args.items is not None and not 1 <= args.items <= 100_000:
        raise ConfigError(f"--items is {args.items}: use 1 to 100000")
    profile, model, step = load_brain(args)
    from seed.curriculum.dataset import Dataset
    from seed.evaluation import reliability, html_report
    from seed.storage import metrics
    from seed.resize import size_search
    from seed.evaluation.exact_match import evaluate, table
    from seed.evaluation.forward_pass import ForwardByLength
    from seed.wavecore.decode import Decoder
    dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
    forward, t = ForwardByLength(model), profile.train.seq_len
    n, scores = args.items or profile.curriculum.holdout_items, {}
    holdout = dataset.holdout(n)
    played = profile.selfplay.tasks   # beyond their lessons: what is longer was learnt
    for name, items in (("holdout", holdout), ("selfplay", dataset.beyond(played, n)),
                        ("extrapolation", dataset.extrapolation(n, played))):
        scores[name] = evaluate(items, dataset, forward, t) or []
    minds = reliability.consistency(dataset, forward, t, min(n, ASKED))
    sure = reliability.calibration(holdout, forward, t)
    free = reliability.stability(Decoder(model), TALKED)
    found = {"profile": profile.name, "step": step,
             **{name: [s.to_dict() for s in own] for name, own in scores.items()},
             "consistency": [dataclasses.asdict(mind) for mind in minds],
             "calibration": {**dataclasses.asdict(sure), "error": sure.error},
             "stability": dataclasses.asdict(free),
             "curriculum": metrics.read(args.run_dir.metrics, "curriculum"),
             "losses": metrics.loss_curve(args.run_dir.metrics),
             "growth": metrics.read(args.run_dir.metrics, "grow"),
             "ladder": size_search.read_ladder(args.run_dir),
             "rounds": metrics.read(args.run_dir.metrics, "selfplay"),
             "teacher": metrics.read(args.run_dir.metrics, "teacher")}
    if args.html:
        args.html.write_text(html_report.page(found), encoding="utf-8")
    if args.json:
        print(json.dumps(found))
        return 0
    print(f"brain at step {step}")
    for name, own in ((name, own) for name, own in scores.items() if own):
        print(f"\n{name}\n{table(own)}")
    print(f"\nthe same answer after every history: {sum(m.same for m in minds)} of "
          f"{sum(m.asked for m in minds)} questions, right {sum(m.right for m in minds)}\n"
          f"holdout loss {sure.loss:.4f} nats a byte, calibration error {100 * sure.error:.1f} %\n"
          f"{free.steps} bytes to itself: states "
          f"{'finite' if free.finite else 'NOT FINITE'}, {100 * free.repetition:.1f} % repeated")
    return 0


def check_prompt(args: argparse.Namespace) -> None:
    if not args.prompt:
        raise ConfigError("--prompt is empty: give at least one character")
    if not 0 <= args.temperature <= 100:
        raise ConfigError(f"--temperature is {args.temperature}: use 0 to 100")
    if args.max_bytes < 1:
        raise ConfigError(f"--max-bytes is {args.max_bytes}: use at least 1")
    if args.seed < 0:
        raise ConfigError(f"--seed is {args.seed}: use 0 or more")
    if any("\ud800" <= character <= "\udfff" for character in args.prompt):
        raise ConfigError("--prompt is not UTF-8: give text")


def run_generate(args: argparse.Namespace) -> int:
    check_prompt(args)
    _, model, _ = load_brain(args)
    from seed.curriculum.vocab import END, decode, encode
    from seed.wavecore.decode import Decoder
    answer = bytes(Decoder(model).generate(encode(args.prompt), args.max_bytes, END,
                                           args.temperature, args.seed))
    text = decode(answer)
    print(json.dumps({"prompt": args.prompt, "answer": text}) if args.json else text)
    return 0


def run_export(args: argparse.Namespace) -> int:
    from seed.export.graph import Options
    from seed.export.build import Source, translate
    from seed.export.verify import fault, table
    if not 0 <= args.prefill <= 64 or args.prefill == 1:
        raise ConfigError(f"--prefill is {args.prefill}: use 2 to 64, or 0 for none")
    source = Source(newest(args.run_dir))
    options = Options(args.target, args.weights, args.explicit_state, args.prefill)
    out = args.out or args.run_dir.exported_brain
    check_out(out)
    if args.no_verify:
        data = translate(source, options, None)
        atomic_file.write(out, data)
        print(json.dumps({"size": len(data), "verified": False}) if args.json else
              f"{out}: {len(data)} bytes, not verified")
        return 0
    data, report = prove(args, source, options)
    wrong = fault(report, args.weights)
    if wrong:
        print(f"seed: {out} was not written: {wrong}", file=sys.stderr)
        return FAILED
    atomic_file.write(out, data)
    facts = dataclasses.asdict(report)
    print(json.dumps(facts) if args.json else f"{out}\n{table(report)}")
    return 0


def check_out(out: Path) -> None:
    """Raises ConfigError if a file cannot be written there, or is something else than a brain."""
    from seed.runtime import MAGIC
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: {out.parent} is no directory: make it first")
    if out.exists():
        with open(out, "rb") as file:
            if not out.is_file() or file.read(8)[4:] != MAGIC:
                raise ConfigError(f"--out {out} is there and is no TFLite file: use another name")


def prove(args: argparse.Namespace, source, options):
    """A file's bytes, and what came out when they ran beside the trainer's own model."""
    prepare_brain(args)
    from seed.curriculum.dataset import Dataset
    from seed.export.reference import Reference
    from seed.export.build import translate
    from seed.export.verify import replays, verify
    from seed.evaluation.exact_match import evaluate
    from seed.evaluation.forward_pass import ForwardByLength
    from seed.wavecore.decode import Decoder
    from seed.wavecore.model import WaveCore
    profile = source.profile
    model = WaveCore(profile.model, source.params, args.threads)
    dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
    items = dataset.holdout(profile.curriculum.holdout_items)
    scores = evaluate(items, dataset, ForwardByLength(model), profile.train.seq_len) or []
    decoder, brain = Decoder(model), opened(translate(source, options, []))
    report = verify(brain, Reference(profile.model, source.params),
                    lambda byte: decoder.prefill(bytes([byte])), items,
                    [s.to_dict() for s in scores])
    data = translate(source, options, report.holdout)   # the same graph, with what it scored
    if not replays(opened(data), brain):
        report.reference.delta = float("inf")
    return data, dataclasses.replace(report, size=len(data))


def opened(data: bytes):
    """A file's bytes as a brain."""
    import tempfile
    from seed.runtime import Brain
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(data)
        file.flush()
        return Brain(file.name)


def run_run(args: argparse.Namespace) -> int:
    from seed.runtime import Brain
    check_prompt(args)
    brain = Brain(args.file)
    text = brain.generate(args.prompt, args.max_bytes, None, args.temperature, args.seed)
    print(json.dumps({"prompt": args.prompt, "answer": text}) if args.json else text)
    return 0
