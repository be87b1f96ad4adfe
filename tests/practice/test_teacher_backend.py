"""A teacher's backend on an endpoint: every request gets a reply, whatever the server does."""
import pytest

from seed.practice.reply import answer_format
from seed.practice.teacher_backend import Background
from tests.support.chat_server import HOSTILE, ChatServer, completion, send
from tests.support.teacher_backends import add_questions, background, replies_of


def test_a_server_s_answers_return_with_their_questions():
    def answer_with_equation(handler, request):
        left, _, second = request["messages"][-1]["content"][:-1].partition("+")
        send(handler, completion(f"{left} + {second} = {int(left) + int(second)}"))
    questions = add_questions(5)
    with ChatServer(answer_with_equation) as server:
        replies = replies_of(background(server), questions)
    assert [(reply.question, reply.answer) for reply in replies] == [
        (question, question.answer.decode()) for question in questions]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_server_gives_no_answer_and_the_next_question_is_asked(kind):
    with ChatServer(HOSTILE[kind].answer_fn) as server:
        replies = replies_of(background(server), add_questions(2))
    assert len(replies) == 2 and all(not reply.answer and reply.rejection for reply in replies)


def test_the_background_thread_survives_an_unexpected_error():
    class Broken:
        url = "http://there"

        def complete(self, *args):
            raise MemoryError
    backend = Background(Broken(), [], {"add": answer_format(["1"])}, lambda s: None)
    replies = replies_of(backend, add_questions(3))
    assert [str(reply.rejection) for reply in replies] == ["broken: MemoryError"] * 3
    assert not backend.pending()
