"""Pages in a real browser: wide, dark, and on a phone. Needs Debian's chromium and chromium-driver.

Screenshots are kept in the folder that SEED_SCREENSHOTS names.
"""
import json
import os
import time
from pathlib import Path

import pytest

from seed.evaluation import evaluate_brain
from seed.evaluation.html_page import encoded
from seed.evaluation.html_report import page
from seed.evaluation.run_facts import read_run
from tests.support import brains, recorded_run
from tests.support.browser import Browser, browser
from tests.support.served_run import WAIT_S, Brain, served
from tests.support.small_run import wait_until

SIZES = [("wide", 1280, False), ("dark", 1280, True), ("phone", 390, False)]
# Elements that reach beyond the window, or are wider than what they are in.
CUT_OFF = """
return [...document.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect(), isBlock = e instanceof HTMLElement && (
        e.checkVisibility() && getComputedStyle(e).display != 'inline');
    return box.right > innerWidth + 0.5 || box.left < -0.5
        || isBlock && e.scrollWidth > e.clientWidth + 1;
}).map(e => e.outerHTML.slice(0, 200))"""
# Texts of plots that reach beyond the plot.
CUT_TEXT = """
return [...document.querySelectorAll('svg.plot text')].filter(text => {
    const box = text.getBoundingClientRect(), plot = text.ownerSVGElement.getBoundingClientRect();
    return box.left < plot.left - 0.5 || box.right > plot.right + 0.5 || !box.width;
}).map(text => text.outerHTML)"""
# Luminance of text and of what is behind it, where they are less than 4.5 to 1 apart (WCAG AA).
FAINT = """
const parts = colour => colour.match(/[\\d.]+/g).map(Number);
const light = colour => parts(colour).slice(0, 3).map(x => x / 255).map(
    x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4
    ).reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
const behind = e => parts(getComputedStyle(e).backgroundColor)[3] === 0 && e.parentElement
    ? behind(e.parentElement) : getComputedStyle(e).backgroundColor;
return [...document.querySelectorAll('body *')].filter(e => {
    if (![...e.childNodes].some(node => node.nodeType == 3 && node.data.trim())) return false;
    const style = getComputedStyle(e);
    const a = light(e.closest('svg') ? style.fill : style.color), b = light(behind(e));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
}).map(e => e.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def chromium():
    with browser() as driven:
        yield driven


@pytest.fixture(scope="module")
def urls(tmp_path_factory) -> dict[str, str]:
    """The page of a run that has done everything, and that of an evaluation."""
    folder = tmp_path_factory.mktemp("pages")
    run_dir = recorded_run.write(folder / "run")
    brains.untrained(run_dir.path, "fast", "curriculum.holdout_items=2", "train.seq_len=64")
    recorded_run.write(run_dir.path)
    texts = {"run": page(read_run(run_dir)),
             "evaluation": page(read_run(run_dir), evaluate_brain(run_dir))}
    for name, text in texts.items():
        (folder / f"{name}.html").write_bytes(encoded(text))
    return {name: (folder / f"{name}.html").as_uri() for name in texts}


def check_page(chromium: Browser, name: str) -> None:
    """Of what is open: nothing is cut off, faint, or said in the console."""
    assert chromium.run("return document.documentElement.scrollWidth <= innerWidth")
    for script in (CUT_OFF, CUT_TEXT, FAINT):
        assert chromium.run(script) == []
    assert chromium.console() == []
    if "SEED_SCREENSHOTS" in os.environ:
        chromium.screenshot(Path(os.environ["SEED_SCREENSHOTS"]) / f"{name}.png")


@pytest.mark.long
@pytest.mark.parametrize("name", ["run", "evaluation"])
@pytest.mark.parametrize("size, width, is_dark", SIZES)
def test_a_report_is_whole_and_readable_in_a_browser(chromium, urls, name, size, width, is_dark):
    chromium.open(urls[name], width, is_dark=is_dark)
    assert chromium.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 24, 29)" if is_dark else "rgb(246, 247, 249)")
    assert chromium.run("return document.querySelectorAll('svg.plot').length") >= 4
    assert chromium.run("return [...document.querySelectorAll('svg.plot')].every("
                        "plot => plot.querySelectorAll('text.tick').length >= 5 && "
                        "plot.querySelectorAll('text.name').length == 2)")
    check_page(chromium, f"{name}-{size}")
    chromium.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    check_page(chromium, f"{name}-{size}-open")


@pytest.fixture
def site(tmp_path, monkeypatch):
    run_dir = recorded_run.write(tmp_path / "first")
    brains.untrained(run_dir.path, "fast")
    recorded_run.write(run_dir.path)
    write_status(run_dir, 1340)
    with served(run_dir, Brain(), monkeypatch) as site:
        yield site, run_dir


def write_status(run_dir, step: int) -> None:
    run_dir.status.write_text(json.dumps({
        "time": time.time(), "state": "training", "step": step, "total_steps": 2000, "left_s": 92,
        "loss": 0.61, "grade": 2, "temp_c": 62.0, "memory_mb": 135, "tokens_per_s": 30400,
        "saved_step": 1200, "level": "ok"}))


@pytest.mark.long
@pytest.mark.parametrize("path", ["", "chat", "report"])
@pytest.mark.parametrize("size, width, is_dark", SIZES)
def test_served_pages_are_whole_and_readable(chromium, site, path, size, width, is_dark):
    chromium.open(f"http://127.0.0.1:{site[0].port}/{path}", width, is_dark=is_dark)
    assert chromium.run("return document.querySelectorAll('nav a').length") == 3
    check_page(chromium, f"served-{path or 'panel'}-{size}")


@pytest.mark.long
def test_the_panel_follows_the_run_by_itself(chromium, site):
    chromium.open(f"http://127.0.0.1:{site[0].port}/", 390)
    assert "1,340 of 2,000" in chromium.run("return document.body.innerText")
    write_status(site[1], 1500)
    wait_until(lambda: "1,500 of 2,000" in chromium.run("return document.body.innerText"),
               timeout_s=WAIT_S)
    assert chromium.console() == []


@pytest.mark.long
def test_a_question_is_answered_with_the_token_of_the_address(chromium, site):
    url = f"http://127.0.0.1:{site[0].port}/chat"
    ask = """document.getElementById("question").value = "12+30=";
             document.getElementById("ask").click()"""
    text = "return document.getElementById('log').innerText"
    chromium.open(url, 390)
    chromium.run("sessionStorage.clear(); location.reload()")
    chromium.run(ask)
    wait_until(lambda: "need the token" in chromium.run(text), timeout_s=WAIT_S)
    assert "401" in chromium.console()[0]
    assert chromium.run("return !document.getElementById('key').hidden")
    chromium.open(f"{url}?#{site[0].token}", 390)
    assert chromium.run("return location.href") == url   # not to be seen, nor in the history
    chromium.run(ask)
    wait_until(lambda: "42   (right)" in chromium.run(text), timeout_s=WAIT_S)
    check_page(chromium, "served-chat-answered")
    chromium.open(url, 390)   # the window remembers it
    chromium.run(ask)
    wait_until(lambda: "42   (right)" in chromium.run(text), timeout_s=WAIT_S)
