"""What a brain is asked, and what is said of its answers; with a brain that answers as told, and
with a real one behind a pipe and a terminal."""
import json
import os
import pty
import subprocess
import sys
from types import SimpleNamespace

import pytest

from seed.__main__ import main
from seed.curriculum.dataset import Dataset
from seed.curriculum.task import UNKNOWN, Task
from seed.curriculum.wording import answer_of
from seed.errors import ConfigError
from seed.evaluation import TrainedBrain
from seed.evaluation.conversation import MAX_QUESTION_BYTES, Conversation
from seed.profile_file import load_profile
from seed.wavecore import decode
from seed.wavecore.decode import Rollout
from tests.support.tiny_run import WAIT_S, tiny_command

LEAST = 0.8   # confidence of an answer that is given


@pytest.fixture
def told(monkeypatch):
    """A conversation, and the answers that will come."""
    answers = []
    monkeypatch.setattr(decode, "Rollouts", lambda model, rows: SimpleNamespace(
        answer=lambda *_: [answers.pop(0)]))
    profile = load_profile("toy")
    dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
    return Conversation(SimpleNamespace(profile=profile, dataset=dataset, model=None,
                                        plain_questions=False),
                        128, min_confidence=LEAST), answers


@pytest.mark.parametrize("question, text, ended, confidence, line", [
    ("12+30=", b"42", True, 0.9, "42   (confidence 0.90, right)"),
    ("12+30=", b"43", True, 0.8, "43   (confidence 0.80, it should be 42)"),
    ("12+30=", b"42", True, 0.799, "   (unsure, confidence 0.79, it should be 42)"),
    ("12+30=", b"42", False, 0.9, "42   (confidence 0.90, it did not end, it should be 42)"),
    ("what is 12 + 30", b"42", True, 0.9, "42   (confidence 0.90, right)"),
    ("5 - 9 =", b"4", True, 0.9, "4   (confidence 0.90, it should be -4)"),
    ("who are you?", b"I am Seed, a small robot brain.", True, 1.0,
     "I am Seed, a small robot brain.   (confidence 1.00, right)")])
def test_an_answer_is_told_right_wrong_unsure_or_without_an_end(told, question, text, ended,
                                                                confidence, line):
    conversation, answers = told
    answers.append(Rollout(text, ended, 0.1, 1.0, confidence))
    reply = conversation.ask(question)
    assert reply.describe() == line and reply.confidence == confidence
    assert reply.answer == (None if confidence < LEAST else text.decode())


@pytest.mark.parametrize("question, text, note", [
    ("hi there!", b"I do not know", "right"), ("hi there!", b"0", "it should be I do not know"),
    ("k:ab,f:", b"I do not know", "right"), ("k:ab,f:", b"ab", "it should be I do not know")])
def test_what_no_task_knows_is_not_known_and_something_else_can_be_asked(told, question, text,
                                                                         note):
    conversation, answers = told
    answers.append(Rollout(text, True, 0.1, 1.0, 0.9))
    reply = conversation.ask(question)
    assert answer_of(reply.example, conversation._tasks) not in ("", UNKNOWN)
    assert reply.describe() == f"{text.decode()}   (confidence 0.90, {note}, try {reply.example})"


def test_a_brain_without_that_task_is_told_that_it_was_taught_no_such_question(told):
    conversation, answers = told
    tasks = {name: task for name, task in conversation._tasks.items()
             if name not in ("asked", "unknown")}
    conversation = Conversation(SimpleNamespace(
        profile=load_profile("toy"), model=None, plain_questions=False,
        dataset=SimpleNamespace(tasks=tasks)), 128)
    answers += [Rollout(b"", True, 0.1, 1.0, 0.9), Rollout(b"42", True, 0.1, 1.0, 0.9)]
    reply = conversation.ask("hi there!")
    assert reply.describe() == (
        f"   (confidence 0.90, it was taught no such question: try {reply.example})")
    assert conversation.ask("how much is 12 plus 30?").describe() == (
        "42   (confidence 0.90, right)")


def test_examples_are_of_as_many_tasks(told):
    conversation, _ = told
    prompts = conversation.examples(4)
    assert len(prompts) == 4 and UNKNOWN not in [
        answer_of(prompt, conversation._tasks) for prompt in prompts]


@pytest.mark.parametrize("closes", [False, True])
def test_a_question_without_a_mark_is_closed_for_a_brain_that_was_taught_marks(told, monkeypatch,
                                                                               closes):
    taught, prompts = told[0]._tasks, []
    monkeypatch.setattr(decode, "Rollouts", lambda model, rows: SimpleNamespace(
        answer=lambda texts, *_: prompts.extend(texts) or [Rollout(b"42", True, 0.1, 1.0, 0.9)]))
    conversation = Conversation(SimpleNamespace(
        profile=load_profile("toy"), model=None, plain_questions=closes,
        dataset=SimpleNamespace(tasks=taught)), 128)
    reply = conversation.ask("12 + 30")
    assert prompts == [b"12 + 30?" if closes else b"12 + 30"]
    assert reply.question == "12 + 30" and reply.is_right


def test_of_a_users_task_nobody_says_what_is_right_or_was_taught(told):
    conversation, answers = told
    taught = conversation._tasks
    conversation = Conversation(SimpleNamespace(
        profile=load_profile("toy"), model=None, plain_questions=False,
        dataset=SimpleNamespace(tasks={**taught, "notes.txt": Task()})), 128)
    answers += [Rollout(b"14", True, 0.1, 1.0, 0.9)] * 2
    assert conversation.ask("7 and 7 add up to ").describe() == "14   (confidence 0.90)"
    assert conversation.ask("7+7=").describe() == "14   (confidence 0.90, right)"


@pytest.mark.parametrize("mark", ["1{}+1=", "{}("])
def test_a_question_that_would_take_minutes_is_refused(told, mark):
    conversation, answers = told
    answers.append(Rollout(b"1", True, 0.1, 1.0, 0.9))
    longest = mark.format(mark[0] * (MAX_QUESTION_BYTES - len(mark) + 2))
    conversation.ask(longest)
    with pytest.raises(ConfigError, match="a question has 4,097 bytes: ask with 4,096 at most"):
        conversation.ask(mark[0] + longest)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat") / "run"
    subprocess.run(tiny_command(folder, steps=2), check=True, capture_output=True, timeout=WAIT_S)
    return folder


def command(run_dir, *options):
    return [sys.executable, "-m", "seed", "chat", f"--run-dir={run_dir}", "--threads=1",
            "--max-bytes=3", *options]


def test_behind_a_pipe_each_line_has_an_answer(run_dir):
    ended = subprocess.run(command(run_dir, "--json"), input=b"ab>\n\nexit\n\xff\n\x1b[2J\nab>",
                           capture_output=True, timeout=WAIT_S)
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 0 and len(rows) == 5 and rows[0] == rows[4]
    assert rows[0]["right"] == "ab" and rows[3]["question"] == "\x1b[2J"
    plain = subprocess.run(command(run_dir), input=b"\x1b[2J\n", capture_output=True,
                           timeout=WAIT_S)
    assert b"\x1b" not in plain.stdout + plain.stderr and b"for example:" in plain.stderr


@pytest.mark.parametrize("line", ["", "exit", " quit "])
def test_in_a_terminal_an_empty_line_or_a_word_ends(run_dir, line):
    master, slave = pty.openpty()
    process = subprocess.Popen(command(run_dir), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    os.write(master, f"exit the loop\n{line}\n".encode())
    text = b""
    try:
        while data := os.read(master, 65536):
            text += data
    except OSError:   # it has ended
        pass
    assert process.wait(WAIT_S) == 0 and text.count(b"\n> ") == 2
    assert b"exit, an empty line or Ctrl-D ends" in text
    os.close(master)


def test_of_a_person_whose_answers_go_into_a_pipe_they_are_all_that_is_there(run_dir):
    master, slave = pty.openpty()
    process = subprocess.Popen(command(run_dir, "--json"), stdin=slave, stdout=subprocess.PIPE,
                               stderr=slave)
    os.close(slave)
    os.write(master, b"ab>\n\n")
    assert json.loads(process.communicate(timeout=WAIT_S)[0])["question"] == "ab>"
    assert process.returncode == 0 and os.read(master, 65536).count(b"> ") > 0
    os.close(master)


def test_a_brain_that_has_learnt_to_act_alone_is_not_asked(tmp_path, monkeypatch, capsys):
    acting = SimpleNamespace(profile=load_profile("control", ["body.rounds={cartpole = 1}"]))
    monkeypatch.setattr(TrainedBrain, "load", lambda *_: acting)
    assert main(["chat", f"--run-dir={tmp_path}"]) == 2
    assert "has learnt to act, and no questions: see it act with" in capsys.readouterr().err
