"""What is left after many kills: engine, application and browser tab, at random moments; measures no speed.

`python -m benchmarks.survive` starts the application in a home of its own, queues 60 pictures of the built-in miniature
from a page in Chromium, and kills one of the three 200 times (`kill -9`; the tab is closed) while they are made. In the
end every picture must be there, none twice, every file whole and the database sound. Linux only: it finds the engine
in /proc. It needs the test tools and a Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import Error, sync_playwright

from benchmarks.served import Application, free_port

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

PAUSE = 0.3, 3.5  # seconds between two kills, drawn evenly
PATIENCE = 120.0  # seconds without a new picture after which it is given up
STATES = "SELECT id, state, message FROM tasks ORDER BY position"


@dataclass
class Person:
    """Somebody with a page, who opens it again when it is gone and goes on with what was given up."""

    context: BrowserContext
    address: str
    page: Page | None = None
    retried: int = 0

    def look(self) -> Page:
        """The page, ready to be used; opened again if need be."""
        while self.page is None:
            page = self.context.new_page()
            try:
                page.goto(self.address, timeout=20_000)
                page.wait_for_function("window.pinhole && document.querySelector('#prompt textarea')", timeout=20_000)
                self.page = page
            except Error:
                page.close()
        return self.page

    def leave(self) -> None:
        """Closes the tab."""
        if self.page is not None:
            self.page.close()
            self.page = None

    def ask(self, prompt: str) -> None:
        """Types a prompt and presses Generate."""
        page = self.look()
        page.fill("#prompt textarea", prompt)
        page.wait_for_timeout(500)
        page.click("#generate_button")
        page.wait_for_timeout(500)

    def go_on(self, task: str) -> None:
        """Presses the button of a task that was given up."""
        order = json.dumps({"tasks": [task]})
        headers = {"Content-Type": "application/json", "Origin": self.address}
        answer = self.context.request.post(f"{self.address}/queue/back", data=order, headers=headers)
        self.retried += answer.ok


def queue_all(person: Person, application: Application, tasks: int, each: int) -> None:
    """Asks for all pictures, in tasks of some each."""
    page = person.look()
    page.check("#advanced_checkbox input")
    page.fill("#image_number input[type=number]", str(each))
    page.press("#image_number input[type=number]", "Tab")
    for number in range(tasks):
        person.ask(f"a red cat in the snow, watercolor, {number}")
    until = time.monotonic() + 60
    while (found := len(application.rows(STATES))) != tasks:
        if time.monotonic() > until:
            raise SystemExit(f"{found} of {tasks} tasks are in the queue.")
        time.sleep(0.2)


def made(application: Application) -> int:
    """How many pictures are recorded."""
    return int(application.rows("SELECT count(*) FROM pictures")[0][0])


def killed(application: Application, person: Person, kills: int, chance: random.Random) -> Counter[str]:
    """Kills, again and again, and stands up again. Returns what was killed how often."""
    done: Counter[str] = Counter()
    while done.total() < kills:
        time.sleep(chance.uniform(*PAUSE))
        victim = chance.choice(("engine", "engine", "application", "tab"))
        engine = application.engine()
        if victim == "engine" and engine is None:
            continue
        if victim == "engine" and engine is not None:
            os.kill(engine, signal.SIGKILL)
        elif victim == "application":
            application.kill()
            application.start()
        else:
            person.leave()
            person.look()
        done[victim] += 1
        for task, state, _ in application.rows(STATES):
            if state == "failed":
                person.go_on(task)
        if done.total() % 10 == 0:
            sys.stdout.write(f"{done.total()} kills, {made(application)} pictures\n")
            sys.stdout.flush()
    return done


def wait(application: Application, person: Person, wanted: int) -> None:
    """Until everything is made, or nothing comes any more."""
    last, since = made(application), time.monotonic()
    while last < wanted and time.monotonic() - since < PATIENCE:
        time.sleep(1)
        for task, state, _ in application.rows(STATES):
            if state == "failed":
                person.go_on(task)
        if (now := made(application)) != last:
            last, since = now, time.monotonic()


def verdict(application: Application, tasks: int, each: int) -> list[str]:
    """What is wrong, in sentences; empty when nothing is."""
    wrong = []
    places = application.rows("SELECT task_id, idx, path FROM pictures")
    if len({(task, index) for task, index, _ in places}) != tasks * each or len(places) != tasks * each:
        wrong.append(f"{len(places)} pictures are recorded, {tasks * each} were asked for")
    files = {path for path in (application.home / "outputs").rglob("*.png") if ".deleted" not in path.parts}
    recorded = {Path(path) for *_, path in places}
    if files != recorded:
        wrong.append(f"{len(files - recorded)} files are not recorded, {len(recorded - files)} are missing")
    for path in files:
        try:
            with Image.open(path) as picture:
                picture.load()
        except OSError as error:
            wrong.append(f"{path.name} is broken: {error}")
    sound = application.rows("PRAGMA integrity_check")
    if sound != [("ok",)]:
        wrong.append(f"the database is not sound: {sound}")
    wrong += [f"task {task} is {state}: {told}" for task, state, told in application.rows(STATES) if state != "done"]
    return wrong


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Kill the application again and again, and count the pictures.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=15)
    parser.add_argument("--each", type=int, default=4, help="pictures of a task")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        application = Application(Path(folder), free_port())
        application.start()
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        person = Person(browser.new_context(), application.address)
        begin = time.monotonic()
        try:
            queue_all(person, application, asked.tasks, asked.each)
            done = killed(application, person, asked.kills, random.Random(asked.seed))
            early = made(application)
            wait(application, person, asked.tasks * asked.each)
            wrong = verdict(application, asked.tasks, asked.each)
        finally:
            browser.close()
            application.kill()
    kinds = ", ".join(f"{name} {count}" for name, count in done.items())
    lines = [
        f"kills: {kinds}; {early} of {asked.tasks * asked.each} pictures were made by the last one",
        f"tasks that were given up and went on by their button: {person.retried}",
        f"seconds in all: {time.monotonic() - begin:.0f}",
        *(
            wrong
            or [f"all {asked.tasks * asked.each} pictures are there, none twice, every file and the database sound"]
        ),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
