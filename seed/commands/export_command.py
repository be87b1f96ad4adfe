"""Write a brain as a TFLite file or a C source, verified against the trainer."""
import argparse
import dataclasses

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=options.path,
                        help="default: brain.tflite, or brain.c, in the run directory")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--c", action="store_true",
                       help="a C source that needs no library, instead of a TFLite file")
    for name in ("int8", "float16"):
        kinds.add_argument(f"--{name}", action="store_const", const=name, dest="weights",
                           default="float32", help=f"{name} weights")
    parser.add_argument("--target", choices=["portable", "litert"], default="portable",
                        help="portable: also for tflite-runtime 2.14")
    parser.add_argument("--explicit-state", action="store_true",
                        help="states as inputs and outputs, instead of variables")
    parser.add_argument("--prefill", type=int, default=0, metavar="T",
                        help="add a signature that reads T bytes per call")
    parser.add_argument("--check-rate", action="store_true",
                        help="write no file that is too slow here for its profile's [loop]")
    parser.add_argument("--no-verify", action="store_true", help="do not run the file")
    options.add_tasks(parser)
    options.add_bodies(parser, "lets a body, which is a file, run; without this it is left out")
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.export import Options, build
    from seed.export.verify import table
    flags = Options(args.target, args.weights, args.explicit_state, args.prefill)
    if args.c:
        from seed.export.c_file import build_c
        with options.working("exporting"):
            source = build_c(args.run_dir, args.out, args.threads, not args.no_verify, options.log,
                             flags, args.check_rate)
        return outcome.show(args, source.facts(), source.describe())
    if not args.no_verify:
        _check_runtime()
    with options.working("exporting"):
        file = build(args.run_dir, flags, args.out, args.threads, verified=not args.no_verify,
                     log=options.log, tasks=options.named_tasks(args), bodies=args.bodies,
                     check_rate=args.check_rate)
    facts = {"size": file.size, "verified": bool(file.report),
             **({"ticks": dataclasses.asdict(file.ticks)} if file.ticks else {})}
    rate = [f"{'rate':<12}{file.ticks.describe()}"] if file.ticks else []
    if file.report is None:
        return outcome.show(args, facts, "\n".join([
            f"{file.path}: {file.size:,} bytes, not verified", *rate]))
    acting = [dataclasses.asdict(row) for row in file.acting]
    return outcome.show(args, {**facts, **dataclasses.asdict(file.report), "acting": acting},
                        "\n".join([f"{file.path}\n{table(file.report, file.size)}",
                                   *(row.describe() for row in file.acting), *rate]))


def _check_runtime() -> None:
    """Before the work: a robot that only trains need not have one."""
    from seed.errors import ConfigError
    from seed.runtime import BrainError, find_interpreter
    try:
        find_interpreter()
    except BrainError as error:
        raise ConfigError(f"{error}, or export with --no-verify, which does not run the file"
                          ) from None
