"""Ask a brain one question after another."""
import argparse
import random
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from seed.commands import options
from seed.terminal_text import escaped

if TYPE_CHECKING:
    from seed.evaluation.conversation import Conversation, Reply

N_EXAMPLES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    options.add_sampling(parser)
    options.add_tasks(parser)
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.evaluation import TrainedBrain
    from seed.evaluation.conversation import Conversation
    brain = TrainedBrain.load(args.run_dir, args.threads, options.log, options.named_tasks(args))
    conversation = Conversation(brain, args.max_bytes, args.temperature, args.seed)
    rng = random.Random(args.seed)
    options.log(f"{brain.profile.name}, {brain.step:,} steps. Ask, for example:  "
                f"{'   '.join(conversation.examples(N_EXAMPLES, rng))}\n"
                f"An empty line or Ctrl-D ends.")
    for question in _questions():
        print(_described(conversation, question, conversation.ask(question), rng), flush=True)
    return 0


def _questions() -> Iterator[str]:
    """Until an empty line of a person, or the end of the input."""
    is_person = sys.stdin.isatty()
    if is_person:
        import readline   # noqa: F401  arrow keys, and earlier questions
    while True:
        try:
            line = input("> " if is_person else "").strip("\r\n")
        except EOFError:
            return
        if line:
            yield line
        elif is_person:
            return


def _described(conversation: "Conversation", question: str, reply: "Reply",
               rng: random.Random) -> str:
    marks = ["" if reply.has_ended else "it did not end", "" if reply.is_sure else "unsure"]
    if reply.right:
        marks.append("right" if reply.text == reply.right else f"wrong: {reply.right}")
    elif not conversation.task_of(question):
        marks.append(f"no question that it was taught: try {_example(conversation, rng)}")
    notes = ", ".join(filter(None, marks))
    return escaped(reply.text).replace("\n", "\\n") + (f"   ({notes})" if notes else "")


def _example(conversation: "Conversation", rng: random.Random) -> str:
    return next(iter(conversation.examples(N_EXAMPLES, rng)), "a question of its tasks")
