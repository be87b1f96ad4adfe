"""Datasets of all tasks for tests, and the items that a batch contains."""
from seed.config import CurriculumConfig
from seed.curriculum.dataset import IGNORE, Batch, Dataset
from seed.curriculum.state import LAST, CurriculumState
from seed.curriculum.tasks import NAMES
from seed.curriculum.vocab import END, PAD

UNLOCKED = CurriculumState(LAST, LAST)
IDENTITY = {"who are you": "I am Seed.", "what for": "To learn.", "where": "Here."}


def dataset_of(seed: int = 0, intermediate_targets: bool = False, **tasks: float) -> Dataset:
    """Items of the tasks with these weights, or of all tasks."""
    config = CurriculumConfig(tasks=tasks or dict.fromkeys(NAMES, 1.0),
                              intermediate_targets=intermediate_targets)
    return Dataset(config, IDENTITY, seed)


def task_of(dataset: Dataset, prompt: bytes) -> str:
    return next(name for name, task in dataset.tasks.items() if task.answer_to(prompt.decode()))


def is_held_out(dataset: Dataset, prompt: bytes) -> bool:
    """Whether the task of a prompt never trains on it."""
    return dataset.tasks[task_of(dataset, prompt)].is_held_out(prompt)


def unpack(batch: Batch) -> list[tuple[bytes, bytes]]:
    """The (prompt, answer) pairs of a batch, read from tokens and targets alone."""
    pairs = []
    for tokens, targets in zip(batch.tokens, batch.targets):
        last = targets[-1] if targets[-1] != IGNORE else PAD
        row = [*map(int, tokens), int(last)]
        loss_mask = [False, *(targets != IGNORE)]
        prompt, answer = bytearray(), bytearray()
        for byte, is_answer in zip(row, loss_mask):
            if byte == PAD:
                assert not is_answer and not prompt
            elif byte == END:
                assert is_answer
                pairs.append((bytes(prompt), bytes(answer)))
                prompt, answer = bytearray(), bytearray()
            else:
                (answer if is_answer else prompt).append(byte)
        assert not prompt and not answer
    return pairs
