"""The page of a run: what it shows, that it is as the metrics say, and that it stays a page of
bounded size and without foreign tags whatever the metrics say."""
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from seed.evaluation.exact_match import Score
from seed.evaluation.html_report import page, write_report
from seed.evaluation.run_facts import read_run
from seed.evaluation.score_cards import cards
from seed.evaluation.score_summary import Measured
from tests.support import brains, recorded_run

VOID = {"meta", "rect", "line", "circle", "polyline"}
MAX_PAGE_BYTES = 10 ** 6


class Tree(HTMLParser):
    """Tags with attributes and the text within them; fails if they do not nest."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        for tag in set(self._open):
            self.texts.setdefault(tag, []).append(data)

    def of(self, tag: str, name: str) -> list[dict[str, str | None]]:
        return [attrs for t, attrs in self.tags if t == tag and name in (
            attrs.get("class") or "").split()]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "first"
    recorded_run.write(folder)
    brains.untrained(folder, "fast")
    return recorded_run.write(folder)


@pytest.fixture(scope="module")
def text(run_dir):
    return page(read_run(run_dir))


@pytest.fixture(scope="module")
def tree(text):
    return Tree(text)


def test_the_summary_is_what_the_metrics_say(tree):
    summary = dict(zip(tree.texts["dt"], tree.texts["dd"]))
    right, chance = 40 / 64 + 31 / 64 + 20 / 64 + 1 / 2, 0.25 + 0.125 + 0.05 + 0.5
    assert summary == {
        "right, mean of levels": f"{100 * right / 4:.1f}\u00a0%",
        "guessing": f"{100 * chance / 4:.1f}\u00a0%",
        "right, hardest levels": f"{100 * (31 / 64 + 20 / 64 + 1 / 2) / 3:.1f}\u00a0%",
        "right, uniform draws": f"{100 * (32 / 128 + 1 / 64 + 1 / 2) / 3:.1f}\u00a0%",
        "cartpole, return": "480.5", "profile": "fast", "parameters": "138,768", "steps": "7",
        "board": "Raspberry Pi 5 Model B Rev 1.0", "last line written": "2026-09-21 14:16 UTC",
        "trained for": "3:07", "hottest": "70\u00a0°C", "most memory": "139\u00a0MB"}


def test_each_plot_has_axes_with_numbers_and_names_and_marks_where_grades_unlocked(text, tree):
    plots = re.findall(r'<svg class="plot".*?</svg>', text)
    assert len(plots) == 6 == len(tree.of("svg", "plot"))
    for plot in plots:
        assert len(re.findall(r'<text class="tick"[^>]*>[\d.k]+</text>', plot)) >= 5
        assert len(re.findall(r'<text class="name"[^>]*>[a-z][^<]+</text>', plot)) == 2
        assert 'class="line' in plot
    for plot in plots[:2]:
        marks = re.findall(r'class="marked"[^>]*>([^<]+)<', plot)
        assert marks in (["2", "3", "4", "5", "6"], ["2", "3", "4", "5, grew", "6"])
        assert plot.count('class="mark"') == len(marks) + ("grew" in plot)
    assert "return of its rounds" in text and ">round<" in text and "hottest zone, °C" in text


def test_tasks_have_a_card_with_examples_and_folded_levels(tree):
    assert tree.texts["h4"] == ["items.jsonl", "50.0\u00a0%", "copy", "55.5\u00a0%", "add",
                                "31.2\u00a0%"]
    assert tree.texts["summary"] == ["1 level", "2 levels", "1 level"]
    assert not any("open" in attrs for tag, attrs in tree.tags if tag == "details")
    notes = [text for text in tree.texts["div"] if text.startswith("guessing ") and "," in text]
    assert [text.replace("\u00a0", " ") for text in notes] == [
        "guessing 50.0 %, 2 questions, hardest level 50.0 %, uniform draw 50.0 %",
        "guessing 18.8 %, 128 questions, hardest level 48.4 %, uniform draw 25.0 %",
        "guessing 5.0 %, 64 questions, hardest level 31.2 %, uniform draw 1.6 %"]
    assert tree.texts["code"] == ["ab>", "ab", "17+17=", "36…", "34"]
    assert {"40/64", "31/64", "20/64", "1/2", "50.3–73.3"} <= set(tree.texts["td"])


def test_bodies_are_a_table_and_choices_as_recorded_another(tree):
    cells = tree.texts["td"]
    assert ["cartpole", "480.5", "468.5 to 492.5", "200.0", "75.0\u00a0%", "50"] == cells[
        (i := cells.index("cartpole")):i + 6]
    assert ["rover", "87.5\u00a0%", "1,200", "/data/drive"] == cells[
        (i := cells.index("rover")):i + 4]
    assert ["wrong", "1", "25.0\u00a0%"] == cells[(i := cells.index("wrong")):i + 3]


def test_the_page_needs_nothing_else_and_knows_dark_and_narrow_screens(text, tree):
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<img|<iframe| on\w+=| src=", text)
    assert "prefers-color-scheme:dark" in text and "width=device-width" in text
    assert not [attrs for _, attrs in tree.tags if "style" in attrs]
    assert len(text.encode()) < MAX_PAGE_BYTES


def test_an_older_run_without_time_heat_and_examples_says_unknown(tmp_path):
    rows = [{key: value for key, value in row.items() if key not in (
        "time", "temp_c", "memory_mb", "tokens_per_s", "board", "examples", "answers", "elapsed_s",
        "uniform")}
        for row in recorded_run.rows()]
    text = page(read_run(recorded_run.write(tmp_path, rows)))
    tree = Tree(text)
    summary = dict(zip(tree.texts["dt"], tree.texts["dd"]))
    unknown = {name for name, value in summary.items() if value == "unknown"}
    assert unknown == {"profile", "parameters", "board", "last line written", "trained for",
                       "hottest", "most memory", "right, uniform draws"}
    assert "uniform draw " not in text and "hardest level 48.4" in text
    assert "code" not in tree.texts and "Temperature" not in text and "Speed" not in text


def test_without_its_own_time_a_run_has_that_between_its_lines(tmp_path):
    rows = [{**row, "elapsed_s": None} if row["kind"] == "eval" else row
            for row in recorded_run.rows()]
    assert "<dd>3:24</dd>" in page(read_run(recorded_run.write(tmp_path, rows)))


def test_a_run_that_was_not_evaluated_yet_has_its_loss(tmp_path):
    rows = [{"kind": "step", "step": step, "loss": 1.0} for step in (1, 2)]
    text = page(read_run(recorded_run.write(tmp_path, rows)))
    assert "It was not evaluated yet" in text and text.count('class="plot"') == 1
    one = page(read_run(recorded_run.write(tmp_path, rows[:1])))
    assert 'class="dot c0"' in one


NASTY = '"><script>alert(1)</script><b style=x onload=y>\x1b[2J\u202e\ud800'


def test_names_and_answers_are_text_whatever_they_are(tmp_path):
    def nasty(value):
        if isinstance(value, dict):
            return {NASTY if key == "copy" else key: item if key == "kind" else nasty(item)
                    for key, item in value.items()}
        if isinstance(value, list):
            return [nasty(item) for item in value]
        return NASTY.replace("\ud800", "") if isinstance(value, str) else value
    run_dir = recorded_run.write(tmp_path, [nasty(row) for row in recorded_run.rows()])
    run_dir.ladder.write_text(json.dumps([{
        "size": NASTY, "peak_mb": 250.0, "predicted_mb": 240.0, "tokens_s": None, "fault": NASTY}]))
    write_report(run_dir)
    text = run_dir.report.read_text()
    tree = Tree(text)
    assert not {"script", "b"} & {tag for tag, _ in tree.tags}
    assert not any(key in ("style", "onload") for _, attrs in tree.tags for key in attrs)
    assert "\x1b" not in text and "\u202e" not in text and "&lt;script&gt;" in text


def test_a_huge_evaluation_is_a_page_of_bounded_size(tmp_path):
    long, extremes = "x" * 290, [1e308, -1e308, 2 ** 62, 0.0]
    rows = [{"kind": "eval", "step": 2 ** 62, "board": long * 40, "scores": [
        {"task": f"{task} {long[:90]}", "level": level, "correct": 1, "count": 2 ** 62,
         "chance": 0.5} for task in range(150) for level in range(20)],
        "examples": [{"task": f"{task} {long[:90]}", "level": 1, "prompt": long, "answer": long,
                      "right": long} for task in range(150) for _ in range(3)]}]
    rows += [{"kind": "step", "step": i, "loss": extremes[i % 4], "temp_c": extremes[i % 4],
              "memory_mb": extremes[i % 4], "tokens_per_s": extremes[i % 4],
              "time": extremes[i % 4]}
             for i in range(9)]
    rows += [{"kind": "body", "step": i, "body": f"{i} {long}", "round": i % 7,
              "mean_return": extremes[i % 4]} for i in range(99)]
    rows += [{"kind": "curriculum", "step": i, "unlocked": 2 ** 62, "evals_since_unlock": 0,
              "accuracy": {"copy": [extremes[i % 4]]}} for i in range(300)]
    rows += [{"kind": "grow", "step": i, "parameters": [1, 2 ** 62]} for i in range(300)]
    text = page(read_run(recorded_run.write(tmp_path, rows)))
    Tree(text)
    assert len(text.encode()) < MAX_PAGE_BYTES and "and 50 more tasks" in text
    assert text.count("<article") == 100
    assert not re.search(r"\bnan\b|\binf\b", text)


def test_a_card_says_that_facts_were_taught():
    score = Score("facts.jsonl", 1, 3, 4, 0.1)
    for is_taught in (True, False):
        text = cards(Measured([replace(score, is_taught=is_taught)]))
        assert ("all of them taught" in text) == is_taught
