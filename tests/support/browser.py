"""A headless Chromium, driven by the WebDriver protocol: Debian's packages chromium and
chromium-driver, and nothing of Python's."""
import base64
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAIT_S = 120.0


class Browser:
    """One page at a time."""

    def __init__(self, url: str):
        self._url = url

    def _call(self, path: str, method: str = "POST", **body: Any) -> Any:
        request = urllib.request.Request(
            f"{self._url}{path}", json.dumps(body).encode() if method == "POST" else None,
            {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=WAIT_S) as response:
            return json.load(response)["value"]

    def open(self, url: str, width: int, height: int = 900, is_dark: bool = False) -> None:
        self._command("Emulation.setDeviceMetricsOverride", width=width, height=height,
                      deviceScaleFactor=1, mobile=width < 600)
        self._command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}])
        self.console()   # of the page before
        self._call("/url", url=url)

    def _command(self, name: str, **params: Any) -> Any:
        return self._call("/goog/cdp/execute", cmd=name, params=params)

    def run(self, script: str) -> Any:
        """What a JavaScript function of this body returns."""
        return self._call("/execute/sync", script=script, args=[])

    def console(self) -> list[str]:
        """Messages since the last time."""
        return [row["message"] for row in self._call("/se/log", type="browser")]

    def screenshot(self, path: Path) -> None:
        """Of the whole page."""
        size = self._command("Page.getLayoutMetrics")["cssContentSize"]
        shot = self._command("Page.captureScreenshot", captureBeyondViewport=True, clip={
            "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1})
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self._call("", "DELETE")


@contextmanager
def browser(options: Sequence[str] = ()) -> Iterator[Browser]:
    """Fails where Debian's chromium-driver is not installed."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.DEVNULL)
    try:
        assert driver.stdout
        line = next(line for line in driver.stdout if "started successfully" in line)
        port = re.search(r"port (\d+)", line)
        assert port, line
        session = Browser(f"http://127.0.0.1:{port[1]}/session")
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
        made = session._call("", capabilities={"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": ["--headless=new", *sandbox, *options]}}})
        session._url += f"/{made['sessionId']}"
        try:
            yield session
        finally:
            session.close()
    finally:
        driver.terminate()
        driver.wait(WAIT_S)
        driver.stdout.close()
