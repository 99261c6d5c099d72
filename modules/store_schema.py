"""The tables of the store and how older ones become them; knows nothing of what is done with them."""

from __future__ import annotations

import json

SCHEMA = """
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    home TEXT NOT NULL,                 -- the process that answers for the task, see Store.adopt
    parameters TEXT NOT NULL,           -- JSON
    folder TEXT NOT NULL,               -- where its pictures go
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'stopped', 'failed')),
    position REAL NOT NULL,             -- order among the waiting
    message TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL,
    finished REAL,
    engine_deaths INTEGER NOT NULL DEFAULT 0,   -- since its last finished picture
    app_deaths INTEGER NOT NULL DEFAULT 0       -- likewise
) STRICT;
CREATE INDEX tasks_by_state ON tasks (state, position);
CREATE INDEX tasks_by_owner ON tasks (owner, created);
CREATE TABLE pictures (
    id TEXT PRIMARY KEY,
    task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    path TEXT,                          -- NULL: the user skipped this picture
    seed INTEGER NOT NULL DEFAULT 0,
    width INTEGER NOT NULL DEFAULT 0,
    height INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    facts TEXT NOT NULL DEFAULT '{}',   -- JSON
    UNIQUE (task_id, idx)
) STRICT;
"""
# What pictures are found by, beside their facts: narrow rows, fifty thousand of which are looked through at once.
HISTORY = """
CREATE TABLE history (
    picture TEXT PRIMARY KEY REFERENCES pictures (id) ON DELETE CASCADE,
    owner TEXT NOT NULL,
    created REAL NOT NULL,
    model TEXT NOT NULL,
    styles TEXT NOT NULL,               -- JSON
    words TEXT NOT NULL,                -- all that a search looks through, folded
    favourite INTEGER NOT NULL DEFAULT 0,
    removed REAL                        -- since when its file waits to be deleted
) STRICT;
CREATE INDEX history_by_time ON history (created, picture);
CREATE INDEX history_removed ON history (picture) WHERE removed IS NOT NULL;
"""
HISTORY_ROWS = """
INSERT OR IGNORE INTO history (picture, owner, created, model, styles, words)
SELECT pictures.id, tasks.owner, pictures.created, coalesce(json_extract(facts, '$.job.checkpoint'), ''),
    coalesce(json_extract(parameters, '$.style_selections'), '[]'),
    folded(lines_of(json_array(
        json_extract(parameters, '$.prompt'), json_extract(parameters, '$.negative_prompt'),
        json_extract(facts, '$.job.positive'), json_extract(facts, '$.job.checkpoint'),
        json_extract(parameters, '$.style_selections'), json_extract(facts, '$.job.styles'),
        json_extract(facts, '$.job.loras'), seed)))
FROM pictures JOIN tasks ON tasks.id = task_id WHERE path IS NOT NULL
"""
# held: its owner lets it wait; random_seed: the seed was not the user's; began: when it was last handed out.
QUEUE = """
ALTER TABLE tasks ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN random_seed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN began REAL
"""
# Cells are tasks, in their order.
PLOTS = """
CREATE TABLE plots (
    id INTEGER PRIMARY KEY,
    axes TEXT NOT NULL,                 -- JSON
    tasks TEXT NOT NULL,                -- JSON: their ids
    done INTEGER NOT NULL DEFAULT 0
) STRICT
"""
# Each brings the store from the version that is its index to the next one.
STEPS = (
    SCHEMA,
    "ALTER TABLE tasks ADD COLUMN texts TEXT NOT NULL DEFAULT ''",  # JSON: what was drawn when the task was planned
    HISTORY + HISTORY_ROWS,
    QUEUE,
    PLOTS,
)
SCHEMA_VERSION = len(STEPS)


def lines_of(values: str) -> str:
    """The texts and numbers in JSON arrays, however deep, a line each."""
    lines: list[str] = []

    def collect(value: object) -> None:
        if isinstance(value, list):
            for each in value:
                collect(each)
        elif value is not None:
            lines.append(str(value))

    collect(json.loads(values))
    return "\n".join(lines)
