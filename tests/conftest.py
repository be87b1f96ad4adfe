"""One cache of compiled kernels for all tests, so that none compiles what another has compiled; and
the count of attacks."""
import atexit
import os
import tempfile

from seed.wavecore.tinygrad_seam import install

if "XDG_CACHE_HOME" not in os.environ:   # of the process that starts the others
    kernels = tempfile.TemporaryDirectory(prefix="seed-tests-")
    atexit.register(kernels.cleanup)
    os.environ["XDG_CACHE_HOME"] = kernels.name
install()


def pytest_terminal_summary(terminalreporter) -> None:
    """The line that bin/attacks.sh ends with: of the tests that are marked as attacks."""
    outcomes = {}
    for outcome in ("skipped", "passed", "failed", "error"):   # of one test the last one counts
        for report in terminalreporter.stats.get(outcome, []):
            if "attack" in getattr(report, "keywords", ()):
                outcomes[report.nodeid] = outcome
    results = list(outcomes.values())
    held, skipped = results.count("passed"), results.count("skipped")
    if results:
        terminalreporter.write_line(
            f"attacks: {len(results) - skipped} tried, {held} held, "
            f"{len(results) - skipped - held} failed; {skipped} need what is not here")
