"""Many people at one application: whose is whose, and how long they wait for an answer; measures no picture.

`python -m benchmarks.together` lets 24 clients, each with a browser's cookie of its own, order pictures of the built-in
miniature, stop and skip them, look at the queue, at pictures and at the page for five minutes, all at once, while
pictures are made without a pause. Each checks that it sees its own tasks and prompts only and that it is refused what
is somebody else's. In the end every file carries the prompt of the one who asked for it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.served import Application, free_port
from modules.metadata import read_picture

THINKS = 0.5, 3.5  # seconds between two things that a person does
MOST_WAITING = 3  # tasks of one person
DEEDS = ("order", "order", "page", "queue", "look", "picture", "skip", "stop", "pry")


@dataclass
class Client:
    """One person."""

    number: int
    port: int
    everybody: list[Client]
    chance: random.Random
    owner: str = ""
    tasks: list[str] = field(default_factory=list)
    pictures: set[str] = field(default_factory=set)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)

    def ask(self, kind: str, method: str, path: str, order: object = None) -> tuple[int, bytes]:
        """One request; its time counts for ``kind``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Cookie": f"pinhole_owner={self.owner}"} if self.owner else {}
        body = None if order is None else json.dumps(order)
        begin = time.perf_counter()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.seconds[kind].append(time.perf_counter() - begin)
        cookie = answer.getheader("set-cookie") or ""
        if not self.owner and cookie.startswith("pinhole_owner="):
            self.owner = cookie.partition("=")[2].partition(";")[0]
        connection.close()
        return answer.status, content

    def json(self, kind: str, method: str, path: str, order: object = None) -> Any:
        """An answer that must be a good one."""
        status, content = self.ask(kind, method, path, order)
        if status not in (200, 201):
            self.wrong.append(f"{method} {path}: {status} {content[:200]!r}")
            return {}
        return json.loads(content)

    @property
    def tag(self) -> str:
        """What stands in all its prompts and in nobody else's."""
        return f"person-{self.number}-"

    def live(self, until: float) -> None:
        """Does one thing after the other."""
        self.ask("page", "GET", "/")
        while time.monotonic() < until:
            try:
                self.act(self.chance.choice(DEEDS))
            except OSError as error:
                self.wrong.append(f"{error!r}")
            time.sleep(self.chance.uniform(*THINKS))

    def act(self, deed: str) -> None:
        """One thing."""
        task = self.chance.choice(self.tasks) if self.tasks else ""
        match deed:
            case "page":
                if self.ask("page", "GET", "/")[0] != 200:
                    self.wrong.append("no page")
            case "queue" | "order":
                waiting = self.look_at_queue()
                if deed == "order" and waiting < MOST_WAITING:
                    self.order()
            case "look" if task:
                told = self.json("task", "GET", f"/tasks/{task}")
                self.pictures |= {each["address"] for each in told.get("pictures", ())}
            case "picture" if self.pictures:
                if self.ask("picture", "GET", self.chance.choice(sorted(self.pictures)))[0] != 200:
                    self.wrong.append("a picture is gone")
            case "skip" | "stop" if task:
                self.json(deed, "POST", f"/tasks/{task}/{deed}")
            case "pry":
                self.pry()

    def look_at_queue(self) -> int:
        """How many of its tasks are unfinished."""
        tasks = self.json("queue", "GET", "/queue").get("tasks", ())
        strange = [each["prompt"] for each in tasks if self.tag not in each["prompt"] or each["id"] not in self.tasks]
        self.wrong += [f"sees {prompt!r}" for prompt in strange]
        return len(tasks)

    def order(self) -> None:
        """A task of one or two pictures."""
        order = {
            "prompt": f"a red cat in the snow {self.tag}{len(self.tasks)}",
            "image_number": self.chance.randint(1, 2),
            "performance_selection": "Lightning",
        }
        self.tasks.append(self.json("order", "POST", "/tasks", order).get("id", ""))

    def pry(self) -> None:
        """Tries what is somebody else's."""
        other = self.chance.choice(self.everybody)
        if other is self or not other.tasks:
            return
        task = self.chance.choice(other.tasks)
        for method, path in (
            ("GET", f"/tasks/{task}"),
            ("POST", f"/tasks/{task}/stop"),
            ("POST", f"/tasks/{task}/skip"),
        ):
            status, _ = self.ask("pry", method, path)
            if status != 404:
                self.wrong.append(f"{method} {path} of another's task is answered with {status}")


def wrong_files(application: Application, clients: list[Client]) -> list[str]:
    """Files that are not what their task's owner asked for, in sentences."""
    owners = {task: client for client in clients for task in client.tasks}
    wrong = []
    for task, path in application.rows("SELECT task_id, path FROM pictures WHERE path IS NOT NULL"):
        prompt = read_picture(Path(path)).parameters.prompt
        if task not in owners or owners[task].tag not in prompt:
            wrong.append(f"{Path(path).name} of {task} has the prompt {prompt!r}")
    return wrong


def percentile(seconds: list[float], share: float) -> float:
    """The time in milliseconds that this share of the answers needs at most."""
    return 1000 * sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Let many people use one application at once.")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=300)
    asked = parser.parse_args()
    clients: list[Client] = []
    with tempfile.TemporaryDirectory() as folder:
        application = Application(Path(folder), free_port())
        application.start()
        try:
            clients += [Client(n, application.port, clients, random.Random(n)) for n in range(asked.clients)]
            until = time.monotonic() + asked.seconds
            threads = [Thread(target=client.live, args=(until,)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for client in clients:
                for task in client.tasks:
                    client.ask("end", "POST", f"/tasks/{task}/stop")
            wrong = [f"{client.tag}: {each}" for client in clients for each in client.wrong]
            wrong += wrong_files(application, clients)
            made = len(application.rows("SELECT 1 FROM pictures WHERE path IS NOT NULL"))
        finally:
            application.kill()
    kinds = dict.fromkeys(kind for client in clients for kind in client.seconds if kind != "end")
    lines = [f"{'':8} {'count':>6} {'median':>8} {'95 %':>8} {'most':>8}  ms"]
    every = {kind: [each for client in clients for each in client.seconds[kind]] for kind in kinds}
    every["all"] = [each for seconds in every.values() for each in seconds]
    for kind, seconds in every.items():
        figures = 1000 * statistics.median(seconds), percentile(seconds, 0.95), 1000 * max(seconds)
        lines.append(f"{kind:8} {len(seconds):6} " + " ".join(f"{figure:8.0f}" for figure in figures))
    tasks = sum(len(client.tasks) for client in clients)
    lines += [f"{tasks} tasks of {len(clients)} people, {made} pictures", *(wrong or ["nobody saw or moved another's"])]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
