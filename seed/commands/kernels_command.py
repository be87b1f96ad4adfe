"""Compile the kernels of a profile ahead of time, also for another CPU: its board then needs no
compiler."""
import argparse
import shlex

from seed.commands import options, outcome

PURPOSES = {"train": "train", "eval": "eval", "chat": "chat", "generate": "chat", "play": "play",
            "adapt": "adapt"}   # of each command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser)
    parser.add_argument("--cpu", default="native", metavar="NAME",
                        help="cortex-a76 (Raspberry Pi 5), x86-64-v3 or native (default: native)")
    parser.add_argument("--for", default="train,eval,chat", dest="purposes", metavar="NAMES",
                        help="of train, eval, chat, play and adapt (default: %(default)s)")
    options.add_bodies(parser, "as of seed train")
    parser.add_argument("--out", type=options.path, metavar="DIR",
                        help="where the set is written (default: where commands look for it)")
    options.add_brain(parser, "optional")


def run(args: argparse.Namespace) -> int:
    from seed.export.kernels_ahead import build
    from seed.wavecore import kernel_set
    from seed.wavecore.cpu import find_target
    target = find_target(args.cpu)
    profile = options.profile_from(args)
    words = ["kernels", f"--cpu={args.cpu}", f"--for={args.purposes}", *selection(args)]
    path, kernels = build(profile, target, args.threads, args.purposes.split(","),
                          args.out or kernel_set.folder(),
                          f"seed {shlex.join(words)}", options.log)
    size = path.stat().st_size
    facts = {"path": str(path), "cpu": target.name, "kernels": len(kernels.objects), "bytes": size}
    return outcome.show(args, facts, f"{path}: {len(kernels.objects)} kernels for {target.name}, "
                        f"{size:,} bytes")


def selection(args: argparse.Namespace) -> list[str]:
    """The options that say of which kernels a command is in need."""
    flags = vars(args)
    return [*(f"--{flag}={flags[flag]}" for flag in ("profile", "seed") if flags.get(flag)),
            *(f"--{flag}={value}" for flag, name in (
                ("set", "overrides"), ("task", "tasks"), ("body", "bodies"))
              for value in flags.get(name) or []),
            *([f"--run-dir={args.run_dir}"] if args.run_dir and not flags.get("profile") else []),
            f"--threads={args.threads}"]


def advice(args: argparse.Namespace) -> str:
    """What makes the kernels that a command lacks; the end of a message."""
    from seed.wavecore.cpu import likely_name
    if args.command not in PURPOSES:
        return "install clang here"
    words = ["kernels", f"--cpu={likely_name()}", f"--for={PURPOSES[args.command]}",
             *selection(args)]
    return f"where clang is, run seed {shlex.join(words)}"
