"""bin/results.py replaces one measured table of docs/results.md and leaves the rest."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
TABLE = re.compile(r"<!-- table: profiles -->.*?<!-- end -->", re.DOTALL)


def results(*arguments):
    return subprocess.run([sys.executable, "bin/results.py", *map(str, arguments)], cwd=ROOT,
                          text=True, capture_output=True)


def test_a_table_is_measured_again_and_the_rest_of_the_page_stays(tmp_path):
    page = tmp_path / "results.md"
    shutil.copy(PAGE, page)
    page.write_text(TABLE.sub("<!-- table: profiles -->\n<!-- end -->", page.read_text()))
    assert results("profiles", "--page", page).returncode == 0
    measured = TABLE.search(page.read_text())[0]
    assert "| `seed` | 737,168 |" in measured and "commit " in measured
    assert TABLE.sub("", page.read_text()) == TABLE.sub("", PAGE.read_text())


def test_a_table_that_is_not_there_is_refused():
    done = results("speed")
    assert done.returncode == 2 and "no table speed" in done.stderr


def test_every_table_of_the_page_can_be_measured():
    names = re.findall(r"<!-- table: ([\w-]+) -->", PAGE.read_text())
    listed = re.search(r"TABLE {2,}(.*?) \(default", results("--help").stdout, re.DOTALL)[1]
    assert sorted(names) == sorted(re.split(r",\s+", listed))
