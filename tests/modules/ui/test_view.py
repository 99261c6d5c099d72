"""What the canvas shows, event by event."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from modules.events import Finish, PictureRecord, Preview, Results
from modules.ui.view import View, refused

TASK = View(task="t", state="waiting", count=2, width=288, height=224)
PICTURE = PictureRecord("t-01", "t", 0, Path("/home/me/outputs/2026/a.png"), 2**63 - 1, 288, 224, 1.0, {"prompt": "x"})


def test_previews_move_the_progress_and_keep_the_last_frame() -> None:
    view = TASK.after(Preview(10, "Sampling", 4.0, b"\xff\xd8jpeg", "The engine was started again."))
    assert (view.state, view.percent, view.text, view.eta) == ("running", 10, "Sampling", 4.0)
    assert view.note == "The engine was started again."
    assert view.preview is not None and view.preview.startswith("data:image/jpeg;base64,")
    assert view.after(Preview(12, "Sampling", 3.0)).preview == view.preview


def test_a_finished_picture_ends_its_preview() -> None:
    view = TASK.after(Preview(50, "", None, b"x", index=0)).after(Results((PICTURE,)))
    assert view.preview is None and [picture.id for picture in view.pictures] == ["t-01"]


def test_a_preview_belongs_to_its_picture() -> None:
    """After a skip, or when a picture is saved while the next is begun, no frame appears in another one's place."""
    first = TASK.after(Preview(30, "", None, b"first", index=0))
    second = first.after(Preview(50, "", None, index=1))
    assert (second.working, second.preview) == (1, None)
    drawn = second.after(Preview(60, "", None, b"second", index=1))
    assert drawn.after(Results((PICTURE,))).preview == drawn.preview != first.preview


def test_ends() -> None:
    done = TASK.after(Finish((PICTURE,), "done", ""))
    assert (done.state, done.message, done.text) == ("done", "", "1 picture, finished.")
    stopped = TASK.after(Finish((), "stopped", ""))
    assert stopped.level == "info" and "Stopped" in stopped.text and not stopped.message
    failed = TASK.after(Finish((PICTURE,), "failed", "Not enough memory."))
    assert (failed.level, failed.message) == ("error", "Not enough memory.")
    assert len(failed.pictures) == 1


def test_the_page_learns_no_path_and_the_whole_seed() -> None:
    text = json.dumps(TASK.after(Results((PICTURE,))).to_json())
    assert "/home/me" not in text and '"a.png"' in text
    assert f'"{2**63 - 1}"' in text


def test_a_grid_has_no_seed() -> None:
    grid = replace(PICTURE, id="t-03", index=2, seed=0, facts={"task": "t", "grid": 2})
    zero = replace(PICTURE, seed=0)
    assert [shown.seed for shown in TASK.after(Results((zero, grid))).pictures] == ["0", ""]


def test_every_view_of_a_live_task_is_new_to_the_page() -> None:
    once = TASK.after(Preview(1, "same"))
    assert once.to_json() != once.after(Preview(1, "same")).to_json()
    assert refused("no") != refused("no")
