"""Find the largest stable brain of this board, by short trainings."""
import argparse
from typing import TYPE_CHECKING

from seed.commands import options, outcome
from seed.errors import INTERRUPTED
from seed.interpreter import shown_command
from seed.terminal_text import unbroken

if TYPE_CHECKING:
    from seed.resize.size_search import SizeSearch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what each size would cost")
    parser.add_argument("--tokens", type=float, default=1e7,
                        help="for which a dry run tells the minutes")
    options.add_search(parser, 60.0)
    options.add_memory(parser)
    options.add_brain(parser, "none")


def run(args: argparse.Namespace) -> int:
    from seed.training.stop_signals import StopSignals
    signals = StopSignals(exit_code=INTERRUPTED).watch()
    from seed.resize.size_search import find_size, open_search
    search_options, profile = options.search_from(args), options.profile_from(args)
    if args.dry_run:
        search = open_search(profile, args.run_dir, args.threads, search_options)
        rows = [search.row(i) for i in range(len(search.ladder))]
        return outcome.show(args, {"ladder": rows}, costs(search, rows, args.tokens))
    with options.working("measuring"):
        search = find_size(profile, args.run_dir, args.threads, search_options, options.log,
                           signals.stop.is_set)
    chosen = search.chosen
    assert chosen is not None   # find_size raises if there is none
    fault = search.verdicts().get(chosen + 1)
    train = shown_command("train", f"--profile={args.run_dir.limit_profile}", "--minutes=60",
                          f"--threads={args.threads}", f"--run-dir={args.run_dir.path / 'brain'}")
    next_size = f"{search.ladder[chosen + 1]} is not: {fault}" if fault else "the ladder ends here"
    return outcome.show(
        args, {"chosen": str(search.ladder[chosen]), "ladder": search.rows()},
        "\n".join(search.line(i) for i in sorted(search.trials))
        + f"\nthe largest stable brain is {search.ladder[chosen]}; {next_size}\n"
        f"train it: {unbroken(train)}")


def costs(search: "SizeSearch", rows: list[dict], tokens: float) -> str:
    """A line per size; minutes for so many tokens are known after the first trial."""
    from seed.resize.size_search import number
    lines = [f"{'d_model x layers, batch':<24}{'parameters':>11}{'MB':>8}{'tokens/s':>10}"
             f"{'minutes':>9}{'save MB':>9}{'GB a day':>9}"]
    for row in rows:
        rate = row["predicted_tokens_s"]
        lines.append(f"{row['size']:<24}{row['parameters']:>11,}{row['predicted_mb']:>8,.0f}"
                     f"{number(rate):>10}{number(tokens / rate / 60 if rate else None):>9}"
                     f"{row['checkpoint_mb']:>9.1f}{row['written_gb_per_day']:>9.1f}")
    lines.append(f"minutes: for {tokens:,.0f} tokens" + (
        "" if search.trials else "; unknown before the first trial: run without --dry-run"))
    return "\n".join(lines)
