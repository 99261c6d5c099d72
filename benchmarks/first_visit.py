"""Seconds until somebody who opens the page for the first time can use it, its weight, and whom it asks; no picture.

`python -m benchmarks.first_visit` starts the application, lets a headless Chromium open it with an empty profile each
time, and waits until the prompt takes text and Generate can be pressed. Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.served import Application, free_port

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
USABLE = """() => window.pinhole && document.querySelector('#prompt textarea')
  && document.querySelector('#generate_button')?.offsetParent && document.querySelector('#canvas .chip')"""


def visit(browser: Browser, address: str) -> tuple[float, int, int, set[str]]:
    """Seconds to a usable page, bytes that came over the wire, requests, and the hosts that were asked besides ours."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    received: list[int] = []
    asked: list[str] = []
    session.on("Network.loadingFinished", lambda told: received.append(int(told["encodedDataLength"])))
    page.on("request", lambda request: asked.append(request.url))
    begin = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(USABLE)
    seconds = time.perf_counter() - begin
    page.wait_for_timeout(1500)
    strangers = {url.split("/")[2] for url in asked if not url.startswith((address, "data:", "blob:"))}
    context.close()
    return seconds, sum(received), len(asked), strangers


def main(argv: list[str] | None = None) -> int:
    """Visit the page; returns the exit code: 1 if anybody else was asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_visit", description=__doc__.partition("\n")[0])
    parser.add_argument("--visits", type=int, default=7, metavar="N")
    visits = parser.parse_args(argv).visits
    with tempfile.TemporaryDirectory() as home, sync_playwright() as driver:
        application = Application(Path(home), free_port())
        application.start()
        browser = driver.chromium.launch(
            executable_path=next(filter(None, map(shutil.which, NAMES)), None), args=["--no-sandbox"]
        )
        first, *found = [visit(browser, application.address) for _ in range(visits + 1)]
        browser.close()
        application.kill()
    seconds = sorted(each[0] for each in found)
    print(f"usable after {statistics.median(seconds):.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}, {visits} visits)")
    print(f"the very first, on a server that has just started: {first[0]:.2f} s")
    print(f"{found[0][1] / 1e6:.2f} MB over the wire in {found[0][2]} requests")
    strangers = set().union(*(each[3] for each in (first, *found)))
    print(f"other hosts asked: {', '.join(sorted(strangers)) or 'none'}")
    return 1 if strangers else 0


if __name__ == "__main__":
    sys.exit(main())
