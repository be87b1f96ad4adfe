"""What the pages of a served run show, while it trains and after."""
import json
import re
import time

import pytest

from seed.errors import ConfigError
from seed.evaluation import TrainedBrain
from seed.evaluation.conversation import Conversation
from seed.serve import pages, panel
from seed.storage import RunDir
from tests.support import brains

STATUS = {"state": "training", "step": 1340, "total_steps": 2000, "left_s": 92, "loss": 0.61,
          "grade": 2, "temp_c": 62.4, "memory_mb": 135.2, "tokens_per_s": 30_400.4,
          "saved_step": 1200, "level": "warn", "reason": "75 C"}


def write_status(run_dir: RunDir, **changes) -> None:
    run_dir.status.write_text(json.dumps({**STATUS, "time": time.time(), **changes}))


def facts(text: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", text))


def test_the_panel_is_that_of_the_status_and_the_metrics(site, run_dir):
    write_status(run_dir)
    text = site.ask("/panel").content.decode()
    assert facts(text) == {
        "state": "training", "step": "1,340 of 2,000", "left": "1:32", "loss": "0.61", "grade": "2",
        "temperature": "62 °C", "memory": "135 MB", "tokens a second": "30,400",
        "saved at step": "1,200", "board": "warn: 75 C"}
    assert "copy 75  items.jsonl" not in text and "<span>grade 1</span><span>75 %</span>" in text
    assert text.count('class="plot"') == 2 and "12&lt;39!" in text and "✓" in text
    assert text in site.ask("/").content.decode()


def test_the_panel_follows_the_run(site, run_dir, monkeypatch):
    monkeypatch.setattr(panel, "PANEL_EVERY_S", 0.0)
    write_status(run_dir)
    assert "1,340 of" in site.ask("/panel").content.decode()
    write_status(run_dir, step=1400)
    with open(run_dir.metrics, "a") as file:
        file.write(json.dumps({"kind": "curriculum", "step": 2250, "answers": [],
                               "accuracy": {"copy": [1.0]}}) + "\n")
    text = site.ask("/panel").content.decode()
    assert "1,400 of" in text and "<span>grade 1</span><span>100 %</span>" in text


def test_many_who_look_cost_one_look(site, run_dir, monkeypatch):
    write_status(run_dir)
    monkeypatch.setattr(panel, "PANEL_EVERY_S", 3600.0)
    first = site.ask("/panel").content
    run_dir.metrics.unlink()
    assert site.ask("/panel").content == first


@pytest.mark.parametrize("changes, state", [
    ({}, "training"), ({"time": 1e9}, "ended without a word"), ({"state": "paused"}, "paused"),
    ({"state": "finished", "time": 1e9}, "finished"), ({"time": "yesterday"}, "ended without a "
                                                                              "word")])
def test_a_run_that_was_killed_does_not_train(site, run_dir, changes, state):
    write_status(run_dir, **changes)
    assert facts(site.ask("/panel").content.decode())["state"] == state


def test_a_run_that_is_held_trains_however_old_its_status_is(site, run_dir):
    write_status(run_dir, time=1e9)
    with run_dir.locked():
        assert facts(site.ask("/panel").content.decode())["state"] == "training"


@pytest.mark.parametrize("status", ["", "[]", "{", '{"step": "<b>", "loss": [], "left_s": {}}',
                                    '{"total_steps": 0, "level": "<b>", "reason": ["<b>"]}'])
def test_a_status_of_any_form_is_shown_as_far_as_it_goes(site, run_dir, status):
    run_dir.status.write_text(status)
    answer = site.ask("/panel")
    assert answer.status == 200 and b"<b>" not in answer.content


def test_a_directory_where_nothing_was_trained_says_so(site, run_dir):
    run_dir.metrics.unlink()
    assert b"Nothing was trained here yet" in site.ask("/").content
    assert b"has no brain and no metrics" in site.ask("/report").content
    assert b'class="example"' not in site.ask("/chat").content


def test_metrics_that_cannot_be_read_are_told(site, run_dir):
    run_dir.metrics.unlink()
    run_dir.metrics.mkdir()
    answer = site.ask("/")
    assert answer.status == 503 and b"the run cannot be read" in answer.content


def test_the_report_is_the_page_of_the_run_with_links(site):
    text = site.ask("/report").content.decode()
    assert "What it knows" in text and text.index('href="/chat"') < text.index("<h1>")
    assert "<script" not in text


def test_the_policy_allows_the_very_style_and_script_of_a_page(site):
    for path in ("/", "/chat", "/report"):
        answer = site.ask(path)
        policy, text = answer.headers["Content-Security-Policy"], answer.content.decode()
        for tag in ("style", "script"):
            blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            assert len(blocks) == (0 if (tag, path) == ("script", "/report") else 1)
            assert all(f"{tag}-src {pages.digest(block)}" in policy for block in blocks)
        assert not re.search(r" (style|on\w+)=", text)


def test_the_chat_shows_what_it_can_be_asked_and_tells_right_from_wrong(site, run_dir):
    brains.untrained(run_dir.path, "fast")
    examples = re.findall(r'class="example"[^>]*>([^<]+)<', site.ask("/chat").content.decode())
    assert len(examples) == 4
    assert site.ask("/ask", {"question": "12+30="}).json()["mark"] == "good"
    assert site.ask("/ask", {"question": "hello"}).json()["line"] == (
        "42   (confidence 0.93)")
    for question in ("", 5, None):
        assert site.ask("/ask", {"question": question}).status == 400


def test_a_brain_that_has_only_learnt_to_act_is_asked_nothing(site, run_dir):
    brains.untrained(run_dir.path, "fast", "body.rounds={cartpole=1}")
    assert b'class="example"' not in site.ask("/chat").content
    with pytest.raises(ConfigError, match="has learnt to act, and no questions: see it act with"):
        Conversation(TrainedBrain.load(run_dir), 8)


def test_the_status_is_json_for_a_dashboard(site, run_dir):
    write_status(run_dir)
    assert site.ask("/status.json").json()["step"] == 1340
    assert site.ask("/v1/models").json()["data"][0]["id"] == "first"
