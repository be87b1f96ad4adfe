"""Ask a brain one question after another."""
import argparse
import io
import json
import sys
from collections.abc import Iterator

from seed.commands import options
from seed.terminal_text import escaped, fitted, unbroken

N_EXAMPLES = 4
LEAVE = ("", "exit", "quit")   # lines of a person that end it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_sampling(parser)
    options.add_tasks(parser)
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.evaluation import TrainedBrain
    from seed.evaluation.conversation import Conversation
    with options.working("loading"):
        brain = TrainedBrain.load(args.run_dir, args.threads, options.log,
                                  options.named_tasks(args))
    conversation = Conversation(brain, args.max_bytes, args.temperature, args.seed,
                                args.min_confidence)
    examples = map(unbroken, conversation.examples(N_EXAMPLES))
    options.log(f"{brain.profile.name}, {brain.step:,} steps. Ask, for example:  "
                f"{'   '.join(examples)}")
    options.log("exit, an empty line or Ctrl-D ends")
    for question in _questions():
        reply = conversation.ask(question)
        print(json.dumps(reply._asdict()) if args.json else
              fitted(escaped(reply.describe()).replace("\n", "\\n"), sys.stdout), flush=True)
    return 0


def _questions() -> Iterator[str]:
    """Until a person leaves, or the end of the input."""
    if not isinstance(sys.stdin, io.TextIOWrapper):   # it is closed
        return
    sys.stdin.reconfigure(errors="replace")
    is_person, is_seen = sys.stdin.isatty(), sys.stdout.isatty()
    if is_person and is_seen:
        import readline   # noqa: F401  arrow keys, and earlier questions
    while True:
        if is_person and not is_seen:   # answers alone go into a file or a pipe
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            line = input("> " if is_person and is_seen else "")
        except EOFError:
            return
        if is_person and line.strip() in LEAVE:
            return
        if line:
            yield line
