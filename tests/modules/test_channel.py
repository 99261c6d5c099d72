"""Following a task: the present state first, the newest state after that, for any number of followers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from modules.channel import TaskChannel
from modules.events import Event, Finish, PictureRecord, Preview, Results

PICTURE = PictureRecord("t-01", "t", 0, Path("x.png"), 1, 8, 8, 0.0, {})
END = Finish((PICTURE,), "done", "")


def test_a_late_follower_gets_preview_image_note_and_pictures_at_once() -> None:
    channel = TaskChannel("Waiting")
    channel.tell(10, "a", image=b"jpeg")
    channel.note("The engine was started again.")
    channel.tell(20, "b", eta=3.0)
    channel.show((PICTURE,))
    events = channel.follow()
    assert next(events) == Preview(20, "b", 3.0, b"jpeg", "The engine was started again.")
    assert next(events) == Results((PICTURE,))
    channel.end(END)
    assert list(events) == [END]


def test_an_image_is_sent_once_and_quiet_is_filled() -> None:
    channel = TaskChannel("Waiting")
    channel.tell(10, "a", image=b"jpeg")
    events = channel.follow(poll=0.01)
    assert next(events) == Preview(10, "a", None, b"jpeg")
    assert next(events) == Preview(10, "a", None, None)
    channel.tell(11, "b", image=b"next")
    assert next(events) == Preview(11, "b", None, b"next")


def test_a_late_follower_gets_no_image_of_another_picture() -> None:
    channel = TaskChannel("Waiting")
    channel.tell(10, "a", image=b"first", index=0)
    channel.tell(50, "b", index=1)
    assert next(channel.follow()) == Preview(50, "b", index=1)


def test_a_slow_follower_gets_the_newest_state_and_holds_nobody_up() -> None:
    channel = TaskChannel("Waiting")
    events = channel.follow()
    next(events)
    began = time.monotonic()
    for percent in range(100):
        channel.tell(percent, "x", image=bytes(100))
    assert time.monotonic() - began < 1
    newest = next(events)
    assert isinstance(newest, Preview) and newest.percent == 99


def test_many_followers_all_get_the_end() -> None:
    channel = TaskChannel("Waiting")
    seen: list[list[Event]] = [[] for _ in range(20)]
    threads = [threading.Thread(target=lambda into=into: into.extend(channel.follow(poll=0.05))) for into in seen]
    for thread in threads:
        thread.start()
    channel.tell(50, "x")
    channel.end(END)
    for thread in threads:
        thread.join(20)
    assert all(events[-1] == END for events in seen)
    assert list(channel.follow())[-1] == END


def test_when_the_application_ends_followers_are_let_go() -> None:
    channel = TaskChannel("Waiting")
    channel.close()
    assert [type(event) for event in channel.follow()] == [Preview]
