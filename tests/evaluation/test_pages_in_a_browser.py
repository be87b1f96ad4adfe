"""Pages in a real browser: wide, dark, and on a phone. Needs Debian's chromium and chromium-driver.

Screenshots are kept in the folder that SEED_SCREENSHOTS names.
"""
import os
from pathlib import Path

import pytest

from seed.evaluation import evaluate_brain
from seed.evaluation.html_report import encoded, page
from seed.evaluation.run_facts import read_run
from tests.support import brains, recorded_run
from tests.support.browser import Browser, browser

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
